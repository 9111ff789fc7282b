"""Bounds the work in flight: a request that does not fit is refused at once instead of waiting."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import NaiadError, Reason


class Admission:
    """Counts requests and tokens in flight."""

    def __init__(self, max_requests: int, max_tokens: int, retry_after_ms: int) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._retry_after_ms = retry_after_ms
        self.requests = 0
        self.tokens = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Admits one request before any work is done for it. Raises OVERLOADED."""
        if self.requests >= self._max_requests:
            raise self._overloaded("requests")
        if self.tokens >= self._max_tokens:
            raise self._overloaded("tokens")
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
        self.tokens += tokens
        try:
            yield
        finally:
            self.tokens -= tokens

    def _overloaded(self, what: str) -> NaiadError:
        return NaiadError(Reason.OVERLOADED, f"too many {what} are in flight", retry_after_ms=self._retry_after_ms)
