"""Finds out, before anything is started, whether a port is free and who has it."""

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.supervisor.errors import StartError

LISTEN_STATE = "0A"


@dataclass(frozen=True)
class PortUse:
    """A port that a child will listen on, and the setting that changes it."""

    host: str
    port: int
    owner: str
    variable: str


def check_free(uses: Sequence[PortUse]) -> None:
    """Raises StartError about the first port that cannot be listened on."""
    taken: dict[int, PortUse] = {}
    for use in uses:
        other = taken.setdefault(use.port, use)
        if other is not use:
            variables = f"{other.variable} or {use.variable}"
            raise StartError(f"port {use.port} is set for both {other.owner} and {use.owner}: change {variables}")
        reason = _why_not_free(use.host, use.port)
        if reason:
            mend = f"or set {use.variable} to a free port"
            raise StartError(f"{use.owner} cannot listen on {use.host}:{use.port}: {reason}, {mend}")


def _why_not_free(host: str, port: int) -> str | None:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        return f"the address is not known ({error.strerror}): check it"
    with socket.socket(family, kind, protocol) as probe:
        # Ports that only linger in TIME_WAIT are free; one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return f"{error.strerror}: check the address"
            process = _listening_process(port)
            return f"the port is in use by {process or 'another process'}: stop it"
    return None


def _listening_process(port: int) -> str | None:
    """Name and id of the process that listens on `port`; None when the kernel does not show it to us."""
    inodes = _listening_inodes(port)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = {str(descriptor.readlink()) for descriptor in (process / "fd").iterdir()}
            if any(f"socket:[{inode}]" in links for inode in inodes):
                command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                return f"process {process.name} ({command[:80]})"
        except OSError:
            # Gone in the meantime, or another user's.
            continue
    return None


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        if not table.exists():
            continue
        for line in table.read_text().splitlines()[1:]:
            fields = line.split()
            local_address, state, inode = fields[1], fields[3], fields[9]
            if state == LISTEN_STATE and int(local_address.rsplit(":", 1)[1], 16) == port:
                inodes.add(inode)
    return inodes
