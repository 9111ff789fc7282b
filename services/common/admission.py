"""Bounds the work in flight: a request that does not fit is refused at once; the parts of a bulk stream wait.

A call is admitted at the door (`door.py`) by an estimate of its tokens and holds a ticket while it lasts. Once its
tokens are counted, `cost` puts the exact number in the estimate's place.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.adaptive_limit import AdaptiveLimit, LimitOptions
from services.common.bulk_room import BulkPart, BulkRoom
from services.common.errors import NaiadError, Reason
from services.common.retry_time import RetryTime
from services.common.tenants import TenantUse

# What texts are taken for until something is known about a method's calls.
FIRST_TOKENS_PER_BYTE = 0.25
_LEARNING_RATE = 0.05
# A call needs no more room than this part of a model's limit, whatever it costs: large ones would never find theirs
# among many small ones. What it holds is its cost, so that the limit is exceeded by one call at most.
_MOST_ROOM = 4


@dataclass(frozen=True)
class AdmissionOptions:
    """Bounds of one process. `model_limit` is that of each model, None for no more than the process's own."""

    max_requests: int
    max_tokens: int
    retry_after_ms: int
    retry_after_max_ms: int
    model_limit: LimitOptions | None = None


class ModelLoad:
    """What one model has in flight, and what its calls are known to cost."""

    def __init__(self, limit: AdaptiveLimit | None) -> None:
        self.limit = limit
        self.tokens = 0
        self._tokens_per_byte: dict[str, float] = {}

    def estimate(self, method: str, size_bytes: int) -> int:
        """Tokens that a call of this size will probably cost."""
        return round(size_bytes * self._tokens_per_byte.get(method, FIRST_TOKENS_PER_BYTE))

    def learn(self, method: str, size_bytes: int, tokens: int) -> None:
        """Takes what a call really cost."""
        known = self._tokens_per_byte.get(method, FIRST_TOKENS_PER_BYTE)
        self._tokens_per_byte[method] = known + _LEARNING_RATE * (tokens / max(1, size_bytes) - known)

    def has_room(self, tokens: int, held: int) -> bool:
        """Whether a call that holds `held` tokens may hold `tokens`; one alone may exceed the limit."""
        others = self.tokens - held
        if self.limit is None:
            return True
        self.limit.note_use(others + tokens)
        limit = self.limit.tokens
        return not others or others + min(tokens, limit // _MOST_ROOM) <= limit


@dataclass(eq=False, slots=True)
class Ticket:
    """One admitted call. `tokens` are what its estimate holds, until `cost` has put the exact number in its place."""

    admission: "Admission"
    load: ModelLoad | None
    method: str
    size_bytes: int
    tokens: int
    admitted_s: float
    tenant: TenantUse | None = None
    is_released: bool = False

    def release(self) -> None:
        """Gives back what the call still holds; nothing the second time."""
        if not self.is_released:
            self.is_released = True
            self.admission.leave(self)


_ticket: ContextVar[Ticket | None] = ContextVar("naiad_ticket", default=None)


def set_current_ticket(ticket: Ticket) -> None:
    """Makes `ticket` the one of the current task."""
    _ticket.set(ticket)


class Admission:
    """Counts requests and tokens in flight.

    Bulk streams together get at most half of the tokens: however many there are, interactive calls find room.
    """

    def __init__(self, options: AdmissionOptions) -> None:
        self._options = options
        self._retry_time = RetryTime(options.retry_after_ms, options.retry_after_max_ms)
        self.requests = 0
        self._call_tokens = 0
        self.models: dict[str, ModelLoad] = {}
        self._bulk = BulkRoom()

    @property
    def bulk_tokens(self) -> int:
        """Tokens in flight of bulk streams."""
        return self._bulk.tokens

    @property
    def tokens(self) -> int:
        """All tokens in flight."""
        return self._call_tokens + self._bulk.tokens

    def enter(self, method: str, model: str | None, size_bytes: int, tenant: TenantUse | None = None) -> Ticket:
        """Admits a call by its size, before any work is done for it. Raises OVERLOADED.

        `model` must be one that exists, since what is learned of it is kept; None if it is not known.
        """
        if self.requests >= self._options.max_requests:
            raise self._overloaded("requests")
        if tenant is not None:
            tenant.check_requests(self._options.max_requests)
        load = None if model is None else self._load(model)
        tokens = load.estimate(method, size_bytes) if load else round(size_bytes * FIRST_TOKENS_PER_BYTE)
        self._check_room(load, tokens, 0, tenant)
        self._retry_time.note_admitted()
        ticket = Ticket(self, load, method, size_bytes, 0, time.monotonic(), tenant)
        self.requests += 1
        self._hold(ticket, tokens)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Ends what `enter` began."""
        self.requests -= 1
        self._hold(ticket, 0)
        self._admit_waiting()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Counts one request, unless it came through the door and is counted already. Raises OVERLOADED."""
        if self._own_ticket() is not None:
            yield
            return
        if self.requests >= self._options.max_requests:
            raise self._overloaded("requests")
        if self.tokens >= self._options.max_tokens:
            raise self._overloaded("tokens")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def reserve(self, tokens: int) -> None:
        """Puts a better estimate in the place of the current call's first one. Raises OVERLOADED."""
        ticket = self._own_ticket()
        if ticket is not None:
            self._check_room(ticket.load, tokens, ticket.tokens, ticket.tenant)
            self._hold(ticket, tokens)

    @contextmanager
    def cost(self, tokens: int) -> Iterator[None]:
        """Admits the exact tokens of a request, in place of an estimate; one alone may exceed the bound.

        The work until here is done: only the bound of the process may still refuse it. Raises OVERLOADED.
        """
        ticket = self._own_ticket()
        held = ticket.tokens if ticket is not None else 0
        if self.tokens - held and self.tokens - held + tokens > self._options.max_tokens:
            raise self._overloaded("tokens")
        load, tenant = (ticket.load, ticket.tenant) if ticket is not None else (None, None)
        if tenant is not None:
            tenant.check_limit(tokens, held)
            tenant.check_share(None, tokens, held, self._shared_tokens())
            tenant.charge(tokens)
            tenant.note_admitted()
        if ticket is not None:
            self._hold(ticket, 0)
            if load is not None:
                load.learn(ticket.method, ticket.size_bytes, tokens)
        self._add(load, tokens, tenant)
        try:
            yield
        finally:
            self._add(load, -tokens, tenant)
            self._admit_waiting()

    def observe_wait(self, wait_s: float) -> None:
        """Takes how long the current call waited before the engine began to work on it.

        While bulk streams run, they are what calls wait for, and the wait says nothing about the calls.
        """
        ticket = self._own_ticket()
        if ticket is not None and ticket.load is not None and ticket.load.limit is not None and not self.bulk_tokens:
            ticket.load.limit.observe(wait_s, ticket.admitted_s)

    @asynccontextmanager
    async def bulk_cost(self, tokens: int) -> AsyncIterator[None]:
        """Admits a part of a bulk stream as soon as there is room for it and its tenant's rate lets it in."""
        ticket = self._own_ticket()
        tenant = None if ticket is None else ticket.tenant
        if tenant is not None:
            await tenant.wait_for_tokens()
        part = BulkPart(tokens, tenant)
        self._bulk.wait(part)
        self._admit_waiting()
        try:
            await part.admitted
            yield
        finally:
            self._bulk.leave(part)
            self._admit_waiting()

    def _own_ticket(self) -> Ticket | None:
        ticket = _ticket.get()
        return ticket if ticket is not None and ticket.admission is self else None

    def _load(self, model: str) -> ModelLoad:
        load = self.models.get(model)
        if load is None:
            limit = None if self._options.model_limit is None else AdaptiveLimit(self._options.model_limit)
            load = self.models[model] = ModelLoad(limit)
        return load

    def _shared_tokens(self) -> int:
        """What tenants share: all but what bulk streams have, which is nobody's."""
        return self._options.max_tokens - self.bulk_tokens

    def _check_room(self, load: ModelLoad | None, tokens: int, held: int, tenant: TenantUse | None) -> None:
        # First: what a tenant asks for beyond its share is no use that a limit should grow for.
        if tenant is not None:
            tenant.check_share(None, tokens, held, self._shared_tokens())
            if load is not None and load.limit is not None:
                tenant.check_share(load, tokens, held, load.limit.tokens)
        others = self.tokens - held
        fits_process = not others or others + tokens <= self._options.max_tokens
        fits_model = load is None or load.has_room(tokens, held)
        if not fits_process or not fits_model:
            raise self._overloaded("tokens")

    def _hold(self, ticket: Ticket, tokens: int) -> None:
        self._add(ticket.load, tokens - ticket.tokens, ticket.tenant)
        ticket.tokens = tokens

    def _add(self, load: ModelLoad | None, tokens: int, tenant: TenantUse | None) -> None:
        self._call_tokens += tokens
        if tenant is not None:
            tenant.hold(load, tokens)
        if load is not None:
            load.tokens += tokens

    def _admit_waiting(self) -> None:
        self._bulk.admit(self._bulk_fits)

    def _bulk_fits(self, tokens: int) -> bool:
        max_tokens = self._options.max_tokens
        fits_share = not self.bulk_tokens or self.bulk_tokens + tokens <= max_tokens // 2
        return fits_share and (not self.tokens or self.tokens + tokens <= max_tokens)

    def _overloaded(self, what: str) -> NaiadError:
        return NaiadError(
            Reason.OVERLOADED, f"too many {what} are in flight", retry_after_ms=self._retry_time.next_ms()
        )
