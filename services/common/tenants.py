"""What each tenant has in flight, and who is refused when tenants together want more than a process can take.

Fair shares: the tokens that a process may have in flight are divided among the tenants that are active, by weight. A
tenant within its share is never refused for what others hold. One beyond it may borrow only what nobody else who is
active could ask for, and never the part that is kept for tenants who come back. So a tenant that offers ten times its
share is held at its share as soon as anybody else is there, and gets nearly everything when nobody is.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client import Counter as CounterMetric

from services.common.errors import NaiadError, Reason
from services.common.retry_time import RetryTime
from services.common.tenant_file import Tenant

ACTIVE_S = 10.0  # a tenant that was last seen longer ago lends its share
_BEYOND_SHARE = "the service is full, and this tenant beyond its share"
_LONGEST_WAIT_S = 1.0  # then the rate is looked up again
IDLE_RESERVE = 0.1  # part of a process that nobody borrows while a tenant is away


class Refusal(StrEnum):
    """Why a tenant was refused."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    REQUEST_RATE = "request_rate"
    TOKEN_RATE = "token_rate"  # noqa: S105 - a label's value
    SHARE = "share"


class TenantMetrics:
    """Metrics by tenant: only names of the tenants file become labels."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = CounterMetric(
            "naiad_tenant_requests_total", "Finished calls of a tenant.", ["tenant", "code"], registry=registry
        )
        self.refused = CounterMetric(
            "naiad_tenant_refused_total",
            "Calls of a tenant beyond its share (share) or its limits.",
            ["tenant", "limit"],
            registry=registry,
        )
        self.admitted_tokens = CounterMetric(
            "naiad_tenant_admitted_tokens_total",
            "Tokens (prompt, and asked-for new ones) of admitted requests.",
            ["tenant"],
            registry=registry,
        )
        self.inflight_tokens = Gauge(
            "naiad_tenant_inflight_tokens", "Tokens of a tenant's requests in flight.", ["tenant"], registry=registry
        )


@dataclass
class _Bucket:
    """A rate with one second of burst. What is taken may exceed what is there; then the debt is paid off first."""

    level: float
    filled_s: float

    def wait_s(self, rate: float, now_s: float) -> float:
        """Seconds until something can be taken; 0 for now."""
        self.level = min(rate, self.level + (now_s - self.filled_s) * rate)
        self.filled_s = now_s
        return 0.0 if self.level > 0 else (1e-9 - self.level) / rate


class TenantUse:
    """One tenant in this process. Its numbers outlive changes of the file."""

    def __init__(self, shares: "TenantShares", tenant: Tenant) -> None:
        self._shares = shares
        self.tenant = tenant
        self.requests = 0
        self.pools: Counter[object] = Counter()
        self.last_seen_s = -math.inf
        self._retry_time = shares.new_retry_time()  # of its own: a crowd of one tenant makes nobody else wait longer
        self._request_bucket = _Bucket(math.inf, 0.0)
        self._token_bucket = _Bucket(math.inf, 0.0)
        metrics, name = shares.metrics, tenant.name
        self._inflight = metrics.inflight_tokens.labels(name)
        self._admitted = metrics.admitted_tokens.labels(name)

    @property
    def tokens(self) -> int:
        """Tokens in flight in this process."""
        return self.pools[None]

    def enter(self) -> None:
        """Begins a call, if the rates and the number of calls allow it; `leave` ends it. Raises QUOTA_EXCEEDED."""
        now_s, limits = self._shares.clock(), self.tenant.limits
        self.last_seen_s = now_s
        if limits.max_inflight_requests is not None and self.requests >= limits.max_inflight_requests:
            raise self._refused(Refusal.REQUESTS, "too many requests of this tenant are in flight")
        if limits.tokens_per_second is not None:
            wait_s = self._token_bucket.wait_s(limits.tokens_per_second, now_s)
            if wait_s > 0:
                raise self._refused(Refusal.TOKEN_RATE, "too many tokens of this tenant", wait_s)
        if limits.requests_per_second is not None:
            wait_s = self._request_bucket.wait_s(limits.requests_per_second, now_s)
            if wait_s > 0:
                raise self._refused(Refusal.REQUEST_RATE, "too many requests of this tenant", wait_s)
            self._request_bucket.level -= 1
        self.requests += 1

    def leave(self) -> None:
        """Ends what `enter` began."""
        self.requests -= 1

    def check_requests(self, capacity_requests: int) -> None:
        """Checks the request that is being made, counted already, against the tenant's share. Raises OVERLOADED."""
        if not self._shares.fits(self, Wanted(1, 1, capacity_requests, lambda use: use.requests)):
            raise self._refused(Refusal.SHARE, _BEYOND_SHARE, overloaded=True)

    def check_share(self, pool: object, tokens: int, held: int, capacity_tokens: float) -> None:
        """Whether a call that holds `held` tokens of a pool may hold `tokens`. Raises OVERLOADED.

        A pool is what may have `capacity_tokens` in flight: the process (None), or one model in it.
        """
        if not self._shares.fits(self, Wanted(tokens, held, capacity_tokens, lambda use: use.pools[pool])):
            raise self._refused(Refusal.SHARE, _BEYOND_SHARE, overloaded=True)

    def check_limit(self, tokens: int, held: int) -> None:
        """Whether a call that holds `held` tokens may hold `tokens` by its tenant's limit. Raises QUOTA_EXCEEDED."""
        limit = self.tenant.limits.max_inflight_tokens
        if limit is None or self.tokens - held + tokens <= limit:
            return
        if tokens > limit:
            message = f"{tokens} tokens; this tenant may have {limit} in flight"
            raise self._refused(Refusal.TOKENS, message, wait_s=None)
        raise self._refused(Refusal.TOKENS, "too many tokens of this tenant are in flight")

    def hold(self, pool: object, tokens: int) -> None:
        """Counts tokens of a call of this tenant in the process and, if it is another, in `pool`; below 0: no more."""
        self.pools[None] += tokens
        if pool is not None:
            self.pools[pool] += tokens
        self._inflight.set(self.tokens)

    async def wait_for_tokens(self) -> None:
        """Waits until the rate of tokens lets work begin that waits where a call would be refused."""
        while (rate := self.tenant.limits.tokens_per_second) is not None:  # the file may change meanwhile
            wait_s = self._token_bucket.wait_s(rate, self._shares.clock())
            if wait_s <= 0:
                return
            await asyncio.sleep(min(wait_s, _LONGEST_WAIT_S))

    def charge(self, tokens: int) -> None:
        """Notes what admitted work costs."""
        if self.tenant.limits.tokens_per_second is not None:
            self._token_bucket.level -= tokens
        self._admitted.inc(tokens)

    def note_admitted(self) -> None:
        """Notes a call that was admitted, for the times after which others may try again."""
        self._retry_time.note_admitted()

    def count_end(self, code: str) -> None:
        """Counts a finished call by the name of its gRPC status."""
        self._shares.metrics.requests.labels(self.tenant.name, code).inc()

    def _refused(
        self, why: Refusal, message: str, wait_s: float | None = 0.0, *, overloaded: bool = False
    ) -> NaiadError:
        """`wait_s` is how long the client should wait at least; None: waiting does not help."""
        self._shares.metrics.refused.labels(self.tenant.name, why.value).inc()
        reason = Reason.OVERLOADED if overloaded else Reason.QUOTA_EXCEEDED
        retry_after_ms = None if wait_s is None else max(self._retry_time.next_ms(), math.ceil(wait_s * 1000))
        return NaiadError(reason, message, retry_after_ms=retry_after_ms)


class TenantShares:
    """All tenants of a process."""

    def __init__(
        self,
        metrics: TenantMetrics,
        new_retry_time: Callable[[], RetryTime],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.metrics = metrics
        self.new_retry_time = new_retry_time
        self.clock = clock
        self._uses: dict[str, TenantUse] = {}

    def configure(self, tenants: Mapping[str, Tenant]) -> None:
        """Takes over what the file says; a tenant that left the file is forgotten, and counted out if it is busy."""
        for name, tenant in tenants.items():
            if name in self._uses:
                self._uses[name].tenant = tenant
            else:
                self._uses[name] = TenantUse(self, tenant)
        for name in [name for name in self._uses if name not in tenants]:
            del self._uses[name]

    def use_of(self, tenant: Tenant) -> TenantUse:
        """What `tenant`, one of the configured, has in flight."""
        return self._uses[tenant.name]

    def fits(self, use: TenantUse, wanted: "Wanted") -> bool:
        """Whether the tenant can have what it wants and leave the others what is theirs."""
        active_since_s = self.clock() - ACTIVE_S
        others = [other for other in self._uses.values() if other is not use]
        active = [other for other in others if other.requests or other.last_seen_s >= active_since_s]
        available = wanted.capacity if len(active) == len(others) else (1 - IDLE_RESERVE) * wanted.capacity
        held = wanted.held_by(use) - wanted.held
        per_weight = available / (use.tenant.weight + sum(other.tenant.weight for other in active))
        if held + wanted.amount <= use.tenant.weight * per_weight:
            return True
        in_flight = held + sum(map(wanted.held_by, others))
        if held == 0 and wanted.amount <= wanted.capacity - in_flight:
            return True  # else a request larger than the share would never be served
        kept = sum(max(0.0, other.tenant.weight * per_weight - wanted.held_by(other)) for other in active)
        return wanted.amount <= available - in_flight - kept


@dataclass(frozen=True)
class Wanted:
    """What a call wants to hold of something, what it holds already, how much there is, and who holds how much."""

    amount: int
    held: int
    capacity: float
    held_by: Callable[[TenantUse], int]
