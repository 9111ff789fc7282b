"""Finds out, before anything is started, whether a port is free and who has it."""

import contextlib
import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from services.supervisor.errors import StartError

LISTEN_STATE = "0A"


@dataclass(frozen=True)
class PortUse:
    """A port that a child will listen on, and the settings that change it and its address."""

    host: str
    port: int
    owner: str
    variable: str
    host_variable: str = "NAIAD_HOST"


def check_free(uses: Sequence[PortUse]) -> None:
    """Raises StartError about the first port that cannot be listened on."""
    taken: dict[int, PortUse] = {}
    for use in uses:
        other = taken.setdefault(use.port, use)
        if other is not use:
            variables = f"{other.variable} or {use.variable}"
            raise StartError(f"port {use.port} is set for both {other.owner} and {use.owner}: change {variables}")
        try:
            _listen(use.host, use.port)
        except OSError as error:
            raise StartError(f"{use.owner} cannot listen on {use.host}:{use.port}: {_advice(use, error)}") from None


def _listen(host: str, port: int) -> None:
    """Raises OSError if the port cannot be listened on."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        # Ports that only linger in TIME_WAIT are free; one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _advice(use: PortUse, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        process = _listening_process(use.port) or "another process"
        return f"the port is in use by {process}: stop it, or set {use.variable} to a free port"
    if error.errno == errno.EACCES:
        return f"the port is not permitted: set {use.variable} to one from 1024"
    return f"{error.strerror}: set {use.host_variable} to an address of this machine"


def _listening_process(port: int) -> str | None:
    """Name and id of the process that listens on `port`; None when the kernel does not show it to us."""
    sockets = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        if not sockets.isdisjoint(_open_files(process)):
            return f"process {process.name} ({_command_line(process)[:80]})"
    return None


def _command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return "just ended"


def _open_files(process: Path) -> set[str]:
    """What the descriptors of a process point to; none when it is gone or another user's."""
    links = set()
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            # Descriptors come and go meanwhile, the one that lists them among them.
            with contextlib.suppress(OSError):
                links.add(str(descriptor.readlink()))
    return links


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
