"""A TCP proxy on the loopback that hurts what passes through it, as networks and machines do."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Self

_CHUNK_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 seconds
_JOIN_TIMEOUT_S = 10


class FaultMode(StrEnum):
    """What happens to bytes and connections."""

    PASS = "pass"
    # Each chunk waits; order stays.
    DELAY = "delay"
    # Every connection is reset, and every new one as soon as it is open.
    RESET = "reset"
    # Nothing moves in either direction, and nobody is told. What was on its way arrives when the mode ends.
    BLACKHOLE = "blackhole"
    # The upstream side is gone, and the client is not told: what it sends is lost, for this connection for good. When
    # the mode ends, the client hears a reset, as from a machine that has started again.
    HALF_OPEN = "half-open"


class FaultProxy:
    """Forwards connections on `address` to `upstream` (HOST:PORT). Runs in a thread of its own; a context manager.

    Its methods may be called from any thread, and have taken effect when they return.
    """

    def __init__(self, upstream: str) -> None:
        host, _, port = upstream.rpartition(":")
        self._upstream = (host, int(port))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._mode = FaultMode.PASS
        self._delay_s = 0.0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.address = ""
        self.connections_accepted = 0

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(_JOIN_TIMEOUT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(_JOIN_TIMEOUT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_JOIN_TIMEOUT_S)
        self._loop.close()

    @property
    def mode(self) -> FaultMode:
        """What it does now."""
        return self._mode

    def set_mode(self, mode: FaultMode, delay_s: float = 0.0) -> None:
        """From now on `mode`; `delay_s` is for DELAY."""
        self._call(lambda: self._set_mode(mode, delay_s))

    def reset_connections(self) -> None:
        """Resets what is open now; new connections are as the mode says."""
        self._call(self._abort_all)

    def lose_connections(self) -> None:
        """Makes what is open now half-open for good, as a firewall that forgets does; new connections pass."""

        def lose() -> None:
            for link in self._links:
                link.lose_upstream()
                link.is_forgotten = True

        self._call(lose)

    def _call(self, function: Callable[[], None]) -> None:
        async def run() -> None:
            function()

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(_JOIN_TIMEOUT_S)

    async def _start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
        self._abort_all()
        mine = asyncio.current_task()
        running = [task for task in asyncio.all_tasks() if task is not mine]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _set_mode(self, mode: FaultMode, delay_s: float) -> None:
        if self._mode is FaultMode.HALF_OPEN and mode is not FaultMode.HALF_OPEN:
            for link in [link for link in self._links if link.upstream_is_gone and not link.is_forgotten]:
                link.abort()
        self._mode, self._delay_s = mode, delay_s
        if mode is FaultMode.BLACKHOLE:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is FaultMode.RESET:
            self._abort_all()
        if mode is FaultMode.HALF_OPEN:
            for link in self._links:
                link.lose_upstream()

    def _abort_all(self) -> None:
        for link in list(self._links):
            link.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_accepted += 1
        link = _Link(writer)
        if self._mode is FaultMode.RESET:
            link.abort()
            return
        self._links.add(link)
        try:
            await self._serve(link, reader)
        except (OSError, asyncio.CancelledError):
            pass  # one of the two sides has ended, and so does the other; or the proxy: asyncio would log the latter
        finally:
            self._links.discard(link)
            link.close()

    async def _serve(self, link: _Link, reader: asyncio.StreamReader) -> None:
        await self._flowing.wait()
        if self._mode is FaultMode.HALF_OPEN:
            link.lose_upstream()
            await self._swallow(reader)
            return
        upstream_reader, link.upstream = await asyncio.open_connection(*self._upstream)
        if link.upstream_is_gone:  # lost while it was opened
            _abort(link.upstream)
            await self._swallow(reader)
            return
        pumps = [
            asyncio.create_task(self._pump(link, reader, link.upstream)),
            asyncio.create_task(self._pump(link, upstream_reader, link.client)),
        ]
        try:
            # The end of one direction leaves the other open; a reset ends both.
            done, _ = await asyncio.wait(pumps, return_when=asyncio.FIRST_EXCEPTION)
            if any(pump.exception() for pump in done):
                link.abort()
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forwards one direction until its end. Of a link without upstream, swallows what the client sends."""
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                if self._mode is FaultMode.DELAY:
                    await asyncio.sleep(self._delay_s)
                if not link.upstream_is_gone:
                    writer.write(data)
                    await writer.drain()
            await self._flowing.wait()
            if not link.upstream_is_gone and writer.can_write_eof():
                writer.write_eof()
        except OSError:
            if not link.upstream_is_gone:
                raise
        if link.upstream_is_gone and writer is link.upstream:
            await self._swallow(reader)

    @staticmethod
    async def _swallow(reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(_CHUNK_BYTES):
                pass


class _Link:
    """One connection of a client and the one to the upstream that belongs to it."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.upstream: asyncio.StreamWriter | None = None
        self.upstream_is_gone = False
        self.is_forgotten = False  # nobody will ever tell the client

    def lose_upstream(self) -> None:
        """The upstream side is reset; the client hears nothing of it."""
        self.upstream_is_gone = True
        if self.upstream is not None:
            _abort(self.upstream)

    def abort(self) -> None:
        """Resets both sides."""
        for writer in (self.client, self.upstream):
            if writer is not None:
                _abort(writer)

    def close(self) -> None:
        """Closes both sides in order."""
        for writer in (self.client, self.upstream):
            if writer is not None:
                writer.close()


def _abort(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):  # closed already
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.transport.abort()
