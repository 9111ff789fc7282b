"""Limits and fair shares of tenants, on a clock of the test's own."""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from services.common.adaptive_limit import LimitOptions
from services.common.admission import Admission, AdmissionOptions, set_current_ticket
from services.common.errors import NaiadError, Reason
from services.common.retry_time import RetryTime
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

    @contextmanager
    def cost(self, name: str, tokens: int) -> Iterator[None]:
        """Tokens in flight, in the order in which admission asks."""
        use = self.use(name)
        use.check_limit(tokens, held=0)
        use.check_share(None, tokens, 0, CAPACITY)
        use.charge(tokens)
        use.note_admitted()
        use.hold(None, tokens)
        try:
            yield
        finally:
            use.hold(None, -tokens)

    def seen(self, name: str) -> None:
        """The tenant makes a call that ends at once."""
        with one_call(self.use(name)):
            pass

    def refused(self, name: str, limit: str) -> float:
        labels = {"tenant": name, "limit": limit}
        return self.registry.get_sample_value("naiad_tenant_refused_total", labels) or 0.0


@contextmanager
def one_call(use: TenantUse) -> Iterator[None]:
    """A call of the tenant, as the interceptor begins and ends it."""
    use.enter()
    try:
        yield
    finally:
        use.leave()


def process(*tenants: Tenant) -> Process:
    now_s, registry = [1000.0], CollectorRegistry()

    def clock() -> float:
        return now_s[0]

    retry_time = partial(RetryTime, 500, 10_000, clock, draw=lambda: 0.5)
    shares = TenantShares(TenantMetrics(registry), retry_time, clock)
    shares.configure({tenant.name: tenant for tenant in tenants})
    return Process(shares, registry, now_s)


def refusal(enter: Callable[[], AbstractContextManager[None]]) -> NaiadError:
    with pytest.raises(NaiadError) as caught, enter():
        raise AssertionError("admitted")
    return caught.value


def test_one_tenant_alone_may_use_all_but_what_is_kept_for_others() -> None:
    everything = process(Tenant("a"))
    with everything.cost("a", CAPACITY):
        pass
    beside = process(Tenant("a"), Tenant("b"))
    with beside.cost("a", 500), beside.cost("a", 400):
        error = refusal(lambda: beside.cost("a", 1))
        assert (error.reason, error.retry_after_ms) == (Reason.OVERLOADED, 750)
        # The one who comes back finds the room that was kept.
        with beside.cost("b", 100):
            pass
    assert beside.refused("a", "share") == 1


def test_beside_an_active_tenant_each_has_its_share_by_weight() -> None:
    both = process(Tenant("a", weight=3.0), Tenant("b", weight=1.0))
    both.seen("a")
    both.seen("b")
    with both.cost("a", 700):
        with both.cost("a", 50):
            pass
        refusal(lambda: both.cost("a", 51))
        with both.cost("b", 250):
            refusal(lambda: both.cost("b", 1))
    # Away for long enough, b lends its share.
    both.now_s[0] += ACTIVE_S + 1
    with both.cost("a", 700), both.cost("a", 200):
        pass


def test_a_tenant_within_its_share_is_not_refused_for_what_another_has_borrowed() -> None:
    both = process(Tenant("a"), Tenant("b"))
    with both.cost("a", 500), both.cost("a", 400):
        both.seen("b")
        with both.cost("b", 400):
            refusal(lambda: both.cost("a", 1))


def test_a_request_larger_than_the_share_passes_when_its_tenant_has_nothing_else() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    with both.cost("a", 900):
        refusal(lambda: both.cost("a", 1))


def test_shares_of_requests_in_flight() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    with ExitStack() as calls:
        for _ in range(5):
            calls.enter_context(one_call(both.use("a")))
            both.use("a").check_requests(10)
        calls.enter_context(one_call(both.use("a")))
        with pytest.raises(NaiadError):
            both.use("a").check_requests(10)
        with one_call(both.use("b")):
            both.use("b").check_requests(10)


def test_limits_of_one_tenant() -> None:
    limits = TenantLimits(max_inflight_requests=1, max_inflight_tokens=100)
    alone = process(Tenant("a", limits=limits))
    with one_call(alone.use("a")):
        error = refusal(partial(one_call, alone.use("a")))
        assert (error.reason, error.retry_after_ms) == (Reason.QUOTA_EXCEEDED, 1000)
    with alone.cost("a", 60):
        assert refusal(lambda: alone.cost("a", 41)).retry_after_ms == 1500  # refused the second time, admitted once
        with alone.cost("a", 40):
            pass
    # Waiting never helps a request that is larger than the limit.
    assert refusal(lambda: alone.cost("a", 101)).retry_after_ms is None
    assert (alone.refused("a", "requests"), alone.refused("a", "tokens")) == (1, 2)
    assert (alone.use("a").requests, alone.use("a").tokens) == (0, 0)


def test_rates_of_one_tenant() -> None:
    alone = process(Tenant("a", limits=TenantLimits(requests_per_second=2.0, tokens_per_second=100.0)))
    use = alone.use("a")
    alone.seen("a")
    alone.seen("a")
    assert (refusal(partial(one_call, use)).reason, alone.refused("a", "request_rate")) == (Reason.QUOTA_EXCEEDED, 1)
    alone.now_s[0] += 0.5
    alone.seen("a")
    # A request may take more than is there; what follows pays for it.
    with alone.cost("a", 400):
        pass
    error = refusal(partial(one_call, use))
    assert error.retry_after_ms is not None
    assert 3000 <= error.retry_after_ms <= 3001
    alone.now_s[0] += error.retry_after_ms / 1000
    alone.seen("a")


def test_a_changed_file_keeps_what_is_in_flight() -> None:
    both = process(Tenant("a"), Tenant("b"))
    use = both.use("a")
    with both.cost("a", 300):
        both.shares.configure({"a": Tenant("a", limits=TenantLimits(max_inflight_tokens=310)), "c": Tenant("c")})
        assert both.use("a") is use
        refusal(lambda: both.cost("a", 11))
        both.shares.configure({"c": Tenant("c")})
    assert use.tokens == 0


METHOD = "/naiad.v1.ClassificationService/Classify"


def admission(model_tokens: int | None = None) -> Admission:
    """Of CAPACITY tokens, and `model_tokens` for each model that never change."""
    limit = None if model_tokens is None else LimitOptions(model_tokens, model_tokens, model_tokens, target_s=1.0)
    return Admission(AdmissionOptions(10, CAPACITY, 7, 7, limit))


def test_admission_at_the_door_holds_the_estimate_for_the_tenant_until_the_exact_number_is_known() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    door, use = admission(), both.use("a")
    with one_call(use):
        ticket = door.enter(METHOD, "m", 1600, use)  # a quarter of a token a byte, to begin with
        assert use.tokens == 400
        set_current_ticket(ticket)
        with door.cost(500):
            assert (door.tokens, use.tokens) == (500, 500)
            with one_call(use):
                assert refusal_of(lambda: door.enter(METHOD, "m", 4, use)).reason is Reason.OVERLOADED
        ticket.release()
    assert (door.tokens, use.tokens, door.requests, use.requests) == (0, 0, 0, 0)


def test_shares_are_of_what_a_model_takes_where_that_is_less() -> None:
    both = process(Tenant("a"), Tenant("b"))
    both.seen("b")
    door, use = admission(model_tokens=200), both.use("a")
    with one_call(use):
        first = door.enter(METHOD, "busy", 400, use)
        assert refusal_of(lambda: door.enter(METHOD, "busy", 400, use)).reason is Reason.OVERLOADED
        # What it has of one model is not held against it at another.
        second = door.enter(METHOD, "idle", 400, use)
        # And the other tenant finds its part of the busy one.
        with one_call(both.use("b")):
            third = door.enter(METHOD, "busy", 400, both.use("b"))
        for ticket in (first, second, third):
            ticket.release()
    assert (use.tokens, both.use("b").tokens) == (0, 0)


def refusal_of(call: Callable[[], object]) -> NaiadError:
    with pytest.raises(NaiadError) as caught:
        call()
    return caught.value


@dataclass
class _Load:
    """Requests of one tenant: at random times, or of `clients` that each send the next when one is answered."""

    name: str
    random: random.Random
    per_second: float = 0.0
    clients: int = 0
    times_s: list[float] = field(default_factory=list)
    refused: int = 0

    def next_s(self, now_s: float, *, refused: bool) -> float:
        """When a client sends again that was answered now."""
        return now_s + (0.5 + self.random.random() if refused else 0.0)


@dataclass
class _Engine:
    """Works on what is in flight in equal parts, 2,000 tokens a second; each request is 100 tokens."""

    world: Process
    running: list[tuple[list[float], _Load, float, ExitStack]] = field(default_factory=list)

    def run_until(self, until_s: float) -> list[_Load]:
        """Works until then, or until the first request is done; whose they were."""
        now_s = self.world.now_s[0]
        first_s = now_s + min((left[0] for left, *_ in self.running), default=math.inf) * len(self.running) / 2000
        reached_s = min(until_s, first_s) if self.running else until_s
        for left, *_ in self.running:
            left[0] -= (reached_s - now_s) * 2000 / len(self.running)
        self.world.now_s[0] = reached_s
        done = [item for item in self.running if item[0][0] <= 1e-6]
        self.running = [item for item in self.running if item[0][0] > 1e-6]
        for _, load, begun_s, held in done:
            held.close()
            load.times_s.append(reached_s - begun_s)
        return [load for _, load, _, _ in done]

    def take(self, load: _Load) -> bool:
        """Whether a request is admitted."""
        held = ExitStack()
        try:
            held.enter_context(one_call(self.world.use(load.name)))
            held.enter_context(self.world.cost(load.name, 100))
        except NaiadError:
            held.close()
            load.refused += 1
            return False
        self.running.append(([100.0], load, self.world.now_s[0], held))
        return True


def _simulate(loads: list[_Load], duration_s: float) -> None:
    engine = _Engine(process(*(Tenant(load.name) for load in loads)))
    begin_s = engine.world.now_s[0]
    arrivals = [(begin_s + load.random.random(), i) for i, load in enumerate(loads) for _ in range(load.clients or 1)]
    heapq.heapify(arrivals)
    while arrivals[0][0] < begin_s + duration_s:
        at_s, index = arrivals[0]
        for done in engine.run_until(at_s):
            if done.clients:
                heapq.heappush(arrivals, (done.next_s(engine.world.now_s[0], refused=False), loads.index(done)))
        if engine.world.now_s[0] < at_s or arrivals[0] != (at_s, index):
            continue
        heapq.heappop(arrivals)
        load = loads[index]
        admitted = engine.take(load)
        if not load.clients:
            heapq.heappush(arrivals, (at_s + load.random.expovariate(load.per_second), index))
        elif not admitted:
            heapq.heappush(arrivals, (load.next_s(at_s, refused=True), index))


def test_a_tenant_at_ten_times_its_share_leaves_the_other_as_it_was() -> None:
    p99_s, refused = {}, {}
    for times in (1, 10):
        greedy = _Load("greedy", random.Random(1), clients=5 * times)  # five requests are half of CAPACITY
        modest = _Load("modest", random.Random(2), per_second=2.5)
        _simulate([greedy, modest], duration_s=600)
        modest.times_s.sort()
        p99_s[times] = modest.times_s[int(0.99 * len(modest.times_s))]
        refused[times] = (greedy.refused, modest.refused)
    assert refused[10][0] > 10_000 > refused[1][0]
    # Hardly ever a chance crowd of the modest one's own goes beyond its share.
    assert refused[10][1] <= 0.01 * len(modest.times_s)
    assert p99_s[10] <= 1.2 * p99_s[1]
