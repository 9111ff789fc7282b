"""What `NAIAD_TRITON_ADDRESS` names: endpoints, and names that stand for several."""

import asyncio
import logging
import socket
from dataclasses import dataclass

from services.common.setting import SettingsError

_VARIABLE = "NAIAD_TRITON_ADDRESS"
_NAME_PREFIX = "dns:///"
_SOCKET_PREFIX = "unix:"
_MAX_PORT = 65_535

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TritonAddresses:
    """`endpoints` are taken as they are; each of `names`, (host, port), stands for all of its addresses."""

    endpoints: tuple[str, ...]
    names: tuple[tuple[str, int], ...]

    @property
    def may_be_several(self) -> bool:
        """Whether there can be more than one Triton."""
        return bool(self.names) or len(self.endpoints) > 1


def parse_addresses(text: str) -> TritonAddresses:
    """Reads the setting. Raises SettingsError."""
    entries = [entry.strip() for entry in text.split(",")]
    if len(set(entries)) < len(entries):
        raise SettingsError(f"{_VARIABLE}={text!r} names one Triton twice")
    endpoints: list[str] = []
    names: list[tuple[str, int]] = []
    for entry in entries:
        if entry.startswith(_NAME_PREFIX):
            names.append(_host_and_port(entry.removeprefix(_NAME_PREFIX), entry))
        else:
            if not entry.startswith(_SOCKET_PREFIX):
                _host_and_port(entry, entry)
            endpoints.append(entry)
    return TritonAddresses(tuple(endpoints), tuple(names))


def _host_and_port(text: str, entry: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) <= _MAX_PORT:
        raise SettingsError(f"{_VARIABLE}: {entry!r} is not HOST:PORT, nor dns:///NAME:PORT")
    return host.strip("[]"), int(port)


async def look_up(name: tuple[str, int]) -> frozenset[str] | None:
    """The endpoints that a name stands for now; None when it cannot be looked up."""
    host, port = name
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        _log.warning("name of Triton cannot be looked up", extra={"fields": {"name": host, "error": str(error)}})
        return None
    return frozenset(
        f"[{address[0]}]:{port}" if family is socket.AF_INET6 else f"{address[0]}:{port}"
        for family, _, _, _, address in found
    )
