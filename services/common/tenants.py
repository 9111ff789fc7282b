"""What each tenant has in flight, and who is refused when tenants together want more than a process can take.

Fair shares: the tokens that a process may have in flight are divided among the tenants that are active, by weight. A
tenant within its share is never refused for what others hold. One beyond it may borrow only what nobody else who is
active could ask for, and never the part that is kept for tenants who come back. So a tenant that offers ten times its
share is held at its share as soon as anybody else is there, and gets nearly everything when nobody is.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from services.common.call import current_tenant
from services.common.errors import NaiadError, Reason
from services.common.tenant_file import Tenant

ACTIVE_S = 10.0  # a tenant that was last seen longer ago lends its share
_BEYOND_SHARE = "the service is full, and this tenant beyond its share"
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
        self.requests = Counter(
            "naiad_tenant_requests_total", "Finished calls of a tenant.", ["tenant", "code"], registry=registry
        )
        self.refused = Counter(
            "naiad_tenant_refused_total",
            "Calls of a tenant beyond its share (share) or its limits.",
            ["tenant", "limit"],
            registry=registry,
        )
        self.admitted_tokens = Counter(
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
        self.tokens = 0
        self.last_seen_s = -math.inf
        self._request_bucket = _Bucket(math.inf, 0.0)
        self._token_bucket = _Bucket(math.inf, 0.0)
        metrics, name = shares.metrics, tenant.name
        self._inflight = metrics.inflight_tokens.labels(name)
        self._admitted = metrics.admitted_tokens.labels(name)

    @contextmanager
    def request(self) -> Iterator[None]:
        """One call. Raises QUOTA_EXCEEDED."""
        now_s, limits = self._shares.clock(), self.tenant.limits
        self.last_seen_s = now_s
        if limits.max_inflight_requests is not None and self.requests >= limits.max_inflight_requests:
            raise self._refused(Refusal.REQUESTS, "too many requests of this tenant are in flight")
        if limits.requests_per_second is not None:
            wait_s = self._request_bucket.wait_s(limits.requests_per_second, now_s)
            if wait_s > 0:
                raise self._refused(Refusal.REQUEST_RATE, "too many requests of this tenant", wait_s)
            self._request_bucket.level -= 1
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    def check_requests(self, capacity_requests: int) -> None:
        """Checks the request that is being made against the tenant's share. Raises OVERLOADED."""
        if not self._shares.fits(self, _requests, 1, capacity_requests):
            raise self._refused(Refusal.SHARE, _BEYOND_SHARE, overloaded=True)

    @contextmanager
    def cost(self, tokens: int, capacity_tokens: float) -> Iterator[None]:
        """The tokens of a request, in a process that may have `capacity_tokens` in flight.

        Raises QUOTA_EXCEEDED for the tenant's own limits, OVERLOADED when it is beyond its share.
        """
        self._check_limits(tokens)
        if not self._shares.fits(self, _tokens, tokens, capacity_tokens):
            raise self._refused(Refusal.SHARE, _BEYOND_SHARE, overloaded=True)
        if self.tenant.limits.tokens_per_second is not None:
            self._token_bucket.level -= tokens
        self._admitted.inc(tokens)
        with self.held(tokens):
            yield

    @contextmanager
    def held(self, tokens: int) -> Iterator[None]:
        """Counts tokens that were admitted in another way."""
        self.tokens += tokens
        self._inflight.set(self.tokens)
        try:
            yield
        finally:
            self.tokens -= tokens
            self._inflight.set(self.tokens)

    def count_end(self, code: str) -> None:
        """Counts a finished call by the name of its gRPC status."""
        self._shares.metrics.requests.labels(self.tenant.name, code).inc()

    def _check_limits(self, tokens: int) -> None:
        limits = self.tenant.limits
        if limits.max_inflight_tokens is not None and self.tokens + tokens > limits.max_inflight_tokens:
            if tokens > limits.max_inflight_tokens:
                message = f"{tokens} tokens; this tenant may have {limits.max_inflight_tokens} in flight"
                raise self._refused(Refusal.TOKENS, message, wait_s=None)
            raise self._refused(Refusal.TOKENS, "too many tokens of this tenant are in flight")
        if limits.tokens_per_second is not None:
            wait_s = self._token_bucket.wait_s(limits.tokens_per_second, self._shares.clock())
            if wait_s > 0:
                raise self._refused(Refusal.TOKEN_RATE, "too many tokens of this tenant", wait_s)

    def _refused(
        self, why: Refusal, message: str, wait_s: float | None = 0.0, *, overloaded: bool = False
    ) -> NaiadError:
        """`wait_s` is how long the client should wait at least; None: waiting does not help."""
        self._shares.metrics.refused.labels(self.tenant.name, why.value).inc()
        reason = Reason.OVERLOADED if overloaded else Reason.QUOTA_EXCEEDED
        retry_after_ms = None if wait_s is None else max(self._shares.retry_after_ms, math.ceil(wait_s * 1000))
        return NaiadError(reason, message, retry_after_ms=retry_after_ms)


class TenantShares:
    """All tenants of a process."""

    def __init__(
        self, metrics: TenantMetrics, retry_after_ms: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.metrics = metrics
        self.retry_after_ms = retry_after_ms
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

    def fits(self, use: TenantUse, held_by: "Callable[[TenantUse, bool], int]", wanted: int, capacity: float) -> bool:
        """Whether the tenant can have `wanted` more of something and leave the others what is theirs."""
        active_since_s = self.clock() - ACTIVE_S
        others = [other for other in self._uses.values() if other is not use]
        active = [other for other in others if other.requests or other.last_seen_s >= active_since_s]
        held = held_by(use, True)
        per_weight = capacity / (use.tenant.weight + sum(other.tenant.weight for other in active))
        if held + wanted <= use.tenant.weight * per_weight:
            return True
        free = capacity - held - sum(held_by(other, False) for other in others)
        if held == 0 and wanted <= free:
            return True  # else a request larger than the share would never be served
        kept = sum(max(0.0, other.tenant.weight * per_weight - held_by(other, False)) for other in active)
        if len(active) < len(others):
            kept = max(kept, IDLE_RESERVE * capacity)
        return wanted <= free - kept


def _tokens(use: TenantUse, is_asking: bool) -> int:  # noqa: ARG001 - one signature with _requests
    return use.tokens


def _requests(use: TenantUse, is_asking: bool) -> int:
    """Requests in flight; the one that asks is counted already."""
    return use.requests - is_asking


def check_tenant_requests(capacity_requests: int) -> None:
    """`TenantUse.check_requests` of the current call's tenant, if there is one."""
    use = current_tenant()
    if use is not None:
        use.check_requests(capacity_requests)


@contextmanager
def tenant_cost(tokens: int, capacity_tokens: float) -> Iterator[None]:
    """`TenantUse.cost` of the current call's tenant, if there is one."""
    use = current_tenant()
    if use is None:
        yield
    else:
        with use.cost(tokens, capacity_tokens):
            yield
