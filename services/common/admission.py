"""Bounds the work in flight: a request that does not fit is refused at once; the parts of a bulk stream wait."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from services.common.errors import NaiadError, Reason
from services.common.tenants import check_tenant_requests, tenant_cost


class Admission:
    """Counts requests and tokens in flight.

    Bulk streams together get at most half of the tokens: however many there are, interactive calls find room.
    """

    def __init__(self, max_requests: int, max_tokens: int, retry_after_ms: int) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._retry_after_ms = retry_after_ms
        self.requests = 0
        self.tokens = 0
        self.bulk_tokens = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Admits one request before any work is done for it. Raises OVERLOADED."""
        if self.requests >= self._max_requests:
            raise self._overloaded("requests")
        if self.tokens >= self._max_tokens:
            raise self._overloaded("tokens")
        check_tenant_requests(self._max_requests)
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @contextmanager
    def cost(self, tokens: int) -> Iterator[None]:
        """Admits the tokens of a request; one alone may exceed the bound. Raises OVERLOADED."""
        if self.tokens and self.tokens + tokens > self._max_tokens:
            raise self._overloaded("tokens")
        with tenant_cost(tokens, self._max_tokens):
            self.tokens += tokens
            try:
                yield
            finally:
                self.tokens -= tokens
                self._admit_waiting()

    @asynccontextmanager
    async def bulk_cost(self, tokens: int) -> AsyncIterator[None]:
        """Admits a part of a bulk stream as soon as there is room, first come, first served."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, admitted))
        self._admit_waiting()
        try:
            await admitted
            yield
        finally:
            if admitted.done() and not admitted.cancelled():
                self.bulk_tokens -= tokens
                self.tokens -= tokens
            self._admit_waiting()

    def _admit_waiting(self) -> None:
        while self._waiting:
            tokens, admitted = self._waiting[0]
            if not admitted.cancelled():  # whoever waited may have left
                if not self._bulk_fits(tokens):
                    return
                self.bulk_tokens += tokens
                self.tokens += tokens
                admitted.set_result(None)
            self._waiting.popleft()

    def _bulk_fits(self, tokens: int) -> bool:
        fits_share = not self.bulk_tokens or self.bulk_tokens + tokens <= self._max_tokens // 2
        return fits_share and (not self.tokens or self.tokens + tokens <= self._max_tokens)

    def _overloaded(self, what: str) -> NaiadError:
        return NaiadError(Reason.OVERLOADED, f"too many {what} are in flight", retry_after_ms=self._retry_after_ms)
