"""Bounds the work that is accepted, so that too much of it is refused at once instead of waiting."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import NaiadError, Reason


class Admission:
    """Counts requests and tokens in flight."""

    def __init__(self, max_requests: int, max_tokens: int, retry_after_ms: int) -> None:
        self._max_requests = max_requests
        self._max_tokens = max_tokens
        self._retry_after_ms = retry_after_ms
        self._requests = 0
        self._tokens = 0

    @contextmanager
    def request(self) -> Iterator[None]:
        """Admits one request, before anything is done for it. Raises OVERLOADED."""
        if self._requests >= self._max_requests:
            raise self._overloaded("requests")
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    @contextmanager
    def tokens(self, count: int) -> Iterator[None]:
        """Admits the tokens of a request. Raises OVERLOADED, except for a request that has the engine to itself."""
        if self._tokens and self._tokens + count > self._max_tokens:
            raise self._overloaded("tokens")
        self._tokens += count
        try:
            yield
        finally:
            self._tokens -= count

    def _overloaded(self, what: str) -> NaiadError:
        message = f"too many {what} are in flight"
        return NaiadError(Reason.OVERLOADED, message, retry_after_ms=self._retry_after_ms)
