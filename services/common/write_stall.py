"""Ends a stream whose client does not read: a write that waits for too long is given up."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

from services.common.errors import NaiadError, Reason


def reads_too_slowly() -> NaiadError:
    """OVERLOADED, as every caller words it."""
    return NaiadError(Reason.OVERLOADED, "the client reads too slowly")


class StallGuard:
    """Writes the messages of one stream. To be used as an async context manager by the task that writes.

    One timer watches all writes of the stream: a timer for each would cost every token.
    """

    def __init__(self, write: Callable[[Any], Awaitable[None]], timeout_s: float) -> None:
        """`write` sends one message and returns when there is room for the next."""
        self._write = write
        self._timeout_s = timeout_s
        self._timeout = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._waits_since_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def write(self, message: Any) -> None:
        """Writes one message."""
        self._waits_since_s = self._loop.time()
        await self._write(message)
        self._waits_since_s = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._watch_for(self._timeout_s)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Raises OVERLOADED when a write was given up."""
        if self._timer is not None:
            self._timer.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise reads_too_slowly() from None

    def _watch_for(self, delay_s: float) -> None:
        self._timer = self._loop.call_later(delay_s, self._look)

    def _look(self) -> None:
        now_s = self._loop.time()
        waited_s = 0.0 if self._waits_since_s is None else now_s - self._waits_since_s
        if waited_s >= self._timeout_s:
            self._timeout.reschedule(now_s)
        else:
            self._watch_for(self._timeout_s - waited_s)
