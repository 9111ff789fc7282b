"""Limits and fair shares of tenants, on a clock of the test's own."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field

import pytest
from prometheus_client import CollectorRegistry

from services.common.admission import Admission
from services.common.call import Call, set_current_call
from services.common.errors import NaiadError, Reason
from services.common.tenant_file import Tenant, TenantLimits
from services.common.tenants import ACTIVE_S, TenantMetrics, TenantShares, TenantUse

CAPACITY = 1000


@dataclass
class Process:
    """All tenants of one process, and its time."""

    shares: TenantShares
    registry: CollectorRegistry
    now_s: list[float]

    def use(self, name: str) -> TenantUse:
        return self.shares.use_of(Tenant(name))

    def seen(self, name: str) -> None:
        """The tenant makes a call that ends at once."""
        with self.use(name).request():
            pass

    def refused(self, name: str, limit: str) -> float:
        labels = {"tenant": name, "limit": limit}
        return self.registry.get_sample_value("naiad_tenant_refused_total", labels) or 0.0


def process(*tenants: Tenant) -> Process:
    now_s, registry = [1000.0], CollectorRegistry()
    shares = TenantShares(TenantMetrics(registry), retry_after_ms=500, clock=lambda: now_s[0])
    shares.configure({tenant.name: tenant for tenant in tenants})
    return Process(shares, registry, now_s)


def refusal(enter: Callable[[], AbstractContextManager[None]]) -> NaiadError:
    with pytest.raises(NaiadError) as caught, enter():
        raise AssertionError("admitted")
    return caught.value


def test_one_tenant_alone_may_use_all_but_what_is_kept_for_others() -> None:
    everything = process(Tenant("a"))
    with everything.use("a").cost(CAPACITY, CAPACITY):
        pass
    beside = process(Tenant("a"), Tenant("b"))
    with beside.use("a").cost(500, CAPACITY), beside.use("a").cost(400, CAPACITY):
        error = refusal(lambda: beside.use("a").cost(1, CAPACITY))
        assert (error.reason, error.retry_after_ms) == (Reason.OVERLOADED, 500)
        # The one who comes back finds the room that was kept.
        with beside.use("b").cost(100, CAPACITY):
            pass
    assert beside.refused("a", "share") == 1


def test_beside_an_active_tenant_each_has_its_share_by_weight() -> None:
    both = process(Tenant("a", weight=3.0), Tenant("b", weight=1.0))
    both.seen("b")
    with both.use("a").cost(700, CAPACITY):
        with both.use("a").cost(50, CAPACITY):
            pass
        refusal(lambda: both.use("a").cost(51, CAPACITY))
        with both.use("b").cost(250, CAPACITY):
            refusal(lambda: both.use("b").cost(1, CAPACITY))
    # Away for long enough, b lends its share.
    both.now_s[0] += ACTIVE_S + 1
    with both.use("a").cost(700, CAPACITY), both.use("a").cost(200, CAPACITY):
        pass


def test_a_tenant_within_its_share_is_not_refused_for_what_another_has_borrowed() -> None:
    both = process(Tenant("a"), Tenant("b"))
    with both.use("a").cost(500, CAPACITY), both.use("a").cost(400, CAPACITY):
        both.seen("b")
        with both.use("b").cost(400, CAPACITY):
            refusal(lambda: both.use("a").cost(1, CAPACITY))


def test_a_request_larger_than_the_share_passes_when_its_tenant_has_nothing_else() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    with both.use("a").cost(900, CAPACITY):
        refusal(lambda: both.use("a").cost(1, CAPACITY))


def test_shares_of_requests_in_flight() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    with ExitStack() as calls:
        for _ in range(5):
            calls.enter_context(both.use("a").request())
            both.use("a").check_requests(10)
        calls.enter_context(both.use("a").request())
        with pytest.raises(NaiadError):
            both.use("a").check_requests(10)
        with both.use("b").request():
            both.use("b").check_requests(10)


def test_limits_of_one_tenant() -> None:
    limits = TenantLimits(max_inflight_requests=1, max_inflight_tokens=100)
    alone = process(Tenant("a", limits=limits))
    with alone.use("a").request():
        error = refusal(alone.use("a").request)
        assert (error.reason, error.retry_after_ms) == (Reason.QUOTA_EXCEEDED, 500)
    with alone.use("a").cost(60, CAPACITY):
        assert refusal(lambda: alone.use("a").cost(41, CAPACITY)).retry_after_ms == 500
        with alone.use("a").cost(40, CAPACITY):
            pass
    # Waiting never helps a request that is larger than the limit.
    assert refusal(lambda: alone.use("a").cost(101, CAPACITY)).retry_after_ms is None
    assert (alone.refused("a", "requests"), alone.refused("a", "tokens")) == (1, 2)
    assert (alone.use("a").requests, alone.use("a").tokens) == (0, 0)


def test_rates_of_one_tenant() -> None:
    alone = process(Tenant("a", limits=TenantLimits(requests_per_second=2.0, tokens_per_second=100.0)))
    use = alone.use("a")
    alone.seen("a")
    alone.seen("a")
    assert (refusal(use.request).reason, alone.refused("a", "request_rate")) == (Reason.QUOTA_EXCEEDED, 1)
    alone.now_s[0] += 0.5
    alone.seen("a")
    # A request may take more than is there; what follows pays for it.
    with use.cost(400, CAPACITY):
        pass
    error = refusal(lambda: use.cost(1, CAPACITY))
    assert error.retry_after_ms is not None
    assert 3000 <= error.retry_after_ms <= 3001
    alone.now_s[0] += error.retry_after_ms / 1000
    with use.cost(1, CAPACITY):
        pass


def test_a_changed_file_keeps_what_is_in_flight() -> None:
    both = process(Tenant("a"), Tenant("b"))
    use = both.use("a")
    with use.cost(300, CAPACITY):
        both.shares.configure({"a": Tenant("a", limits=TenantLimits(max_inflight_tokens=310)), "c": Tenant("c")})
        assert both.use("a") is use
        refusal(lambda: both.use("a").cost(11, CAPACITY))
        both.shares.configure({"c": Tenant("c")})
    assert use.tokens == 0


def test_admission_asks_the_tenant_of_the_call() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    admission = Admission(max_requests=10, max_tokens=CAPACITY, retry_after_ms=7)
    set_current_call(Call("/x", "1", tenant=both.use("a")))
    with admission.request(), admission.cost(500):
        assert refusal(lambda: admission.cost(1)).reason is Reason.OVERLOADED
        assert (admission.tokens, both.use("a").tokens) == (500, 500)
    assert (admission.tokens, both.use("a").tokens) == (0, 0)


@dataclass
class _Load:
    """Requests of one tenant, arriving at random."""

    name: str
    per_second: float
    random: random.Random
    waits_s: list[float] = field(default_factory=list)
    refused: int = 0


def _simulate(loads: list[_Load], duration_s: float) -> None:
    """An engine that works on what is in flight in equal parts, 2,000 tokens a second; each request is 100 tokens."""
    world = process(*(Tenant(load.name) for load in loads))
    arrivals = [(world.now_s[0] + load.random.expovariate(load.per_second), i) for i, load in enumerate(loads)]
    heapq.heapify(arrivals)
    running: list[tuple[list[float], _Load, float, ExitStack]] = []
    end_s = world.now_s[0] + duration_s
    while arrivals[0][0] < end_s:
        arrival_s, index = arrivals[0]
        step_s = min((left[0] for left, *_ in running), default=0.0) * len(running) / 2000
        now_s = min(arrival_s, world.now_s[0] + step_s) if running else arrival_s
        for left, *_ in running:
            left[0] -= (now_s - world.now_s[0]) * 2000 / len(running)
        world.now_s[0] = now_s
        for done in [item for item in running if item[0][0] <= 1e-6]:
            running.remove(done)
            done[3].close()
            done[1].waits_s.append(now_s - done[2])
        if now_s < arrival_s:
            continue
        load = loads[index]
        heapq.heapreplace(arrivals, (arrival_s + load.random.expovariate(load.per_second), index))
        held = ExitStack()
        try:
            held.enter_context(world.use(load.name).request())
            held.enter_context(world.use(load.name).cost(100, CAPACITY))
        except NaiadError:
            held.close()
            load.refused += 1
            continue
        running.append(([100.0], load, now_s, held))


def test_a_tenant_at_ten_times_its_share_leaves_the_other_as_it_was() -> None:
    p99_s, refused = {}, {}
    for times in (1, 10):
        greedy = _Load("greedy", 10.0 * times, random.Random(1))
        modest = _Load("modest", 5.0, random.Random(2))
        _simulate([greedy, modest], duration_s=600)
        modest.waits_s.sort()
        p99_s[times] = modest.waits_s[int(0.99 * len(modest.waits_s))]
        refused[times] = (greedy.refused, modest.refused)
    assert refused[10][0] > 10 * refused[1][0]
    assert refused[10][1] == 0
    assert p99_s[10] <= 1.2 * p99_s[1]
