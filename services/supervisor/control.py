"""A socket in the log folder through which `naiad reload` talks to a running `naiad serve`.

One JSON object a line: {"command": "reload"} is answered by {"ok": true or false, "message": "..."}.
"""

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.supervisor.errors import StartError
from services.supervisor.reload import ReloadError

SOCKET_NAME = "control.sock"
_REQUEST_TIMEOUT_S = 5.0
_MAX_LINE_BYTES = 64 * 1024


class NotRunningError(Exception):
    """Nobody listens on the socket."""


@asynccontextmanager
async def control_socket(folder: Path, reload: Callable[[], Awaitable[str]]) -> AsyncIterator[None]:
    """Answers commands of this user for as long as the context lasts. Raises StartError when the folder is taken."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                line = await reader.readline()
            writer.write(json.dumps(await _run(line, reload)).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, ConnectionError):
            pass  # whoever asked is gone, or was not one of us
        finally:
            writer.close()

    listener = _listen(folder)
    server = await asyncio.start_unix_server(answer, sock=listener, limit=_MAX_LINE_BYTES)
    try:
        yield
    finally:
        server.close()
        (folder / SOCKET_NAME).unlink(missing_ok=True)


def call(folder: Path, command: str, timeout_s: float) -> tuple[bool, str]:
    """Whether `command` succeeded, and what is to be said about it. Raises NotRunningError, TimeoutError."""
    with socket.socket(socket.AF_UNIX) as connection, _short_path(folder) as path:
        connection.settimeout(timeout_s)
        try:
            connection.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunningError from None
        connection.sendall(json.dumps({"command": command}).encode() + b"\n")
        with connection.makefile("rb") as stream:
            line = stream.readline(_MAX_LINE_BYTES)
    if not line:
        raise NotRunningError
    answer = json.loads(line)
    return bool(answer["ok"]), str(answer["message"])


async def _run(line: bytes, reload: Callable[[], Awaitable[str]]) -> dict[str, object]:
    if json.loads(line) != {"command": "reload"}:
        return {"ok": False, "message": "this command is not known"}
    try:
        return {"ok": True, "message": await reload()}
    except ReloadError as error:
        return {"ok": False, "message": str(error)}


def _listen(folder: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        os.fchmod(listener.fileno(), 0o600)  # before it has a name: Linux gives the file these permissions
        with _short_path(folder) as path:
            if _somebody_listens(path):
                raise StartError(f"another naiad serve has its logs in {folder}: set NAIAD_LOG_DIRECTORY")
            (folder / SOCKET_NAME).unlink(missing_ok=True)
            listener.bind(path)
    except BaseException:
        listener.close()
        raise
    return listener


def _somebody_listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(1.0)
        probe.connect(path)
        return True
    return False


@contextlib.contextmanager
def _short_path(folder: Path) -> Iterator[str]:
    """The socket's path by way of a descriptor: addresses of sockets have at most 107 bytes, folders more."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        raise NotRunningError from None
    try:
        yield f"/proc/self/fd/{descriptor}/{SOCKET_NAME}"
    finally:
        os.close(descriptor)
