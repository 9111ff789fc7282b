"""The limit against a simulated engine, in simulated time."""

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean

import pytest

from services.common.adaptive_limit import AdaptiveLimit, LimitOptions

COST_TOKENS = 100
PLACES = 8
TARGET_S = 0.05
OPTIONS = LimitOptions(minimum=COST_TOKENS, maximum=1_000 * COST_TOKENS, start=250 * COST_TOKENS, target_s=TARGET_S)


@dataclass
class Outcome:
    """What happened, each with its time."""

    waits: list[tuple[float, float]] = field(default_factory=list)
    ends_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    limits: list[tuple[float, int]] = field(default_factory=list)

    def mean_wait_s(self, begin_s: float, end_s: float) -> float:
        return mean(wait_s for at_s, wait_s in self.waits if begin_s <= at_s < end_s)

    def ended_per_s(self, begin_s: float, end_s: float) -> float:
        return sum(begin_s <= at_s < end_s for at_s in self.ends_s) / (end_s - begin_s)

    def mean_limit(self, begin_s: float, end_s: float) -> float:
        return mean(tokens for at_s, tokens in self.limits if begin_s <= at_s < end_s)


@dataclass
class Simulation:
    """An engine with a queue, that works on PLACES requests at a time, and Poisson arrivals of requests to it."""

    latency_s: Callable[[float], float]  # of a request that begins at a time
    arrivals_per_s: Callable[[float], float]
    options: LimitOptions = OPTIONS
    now_s: float = 0.0

    def run(self, duration_s: float) -> Outcome:
        chance = random.Random(5)
        limit = AdaptiveLimit(self.options, lambda: self.now_s)
        outcome = Outcome()
        queue: deque[float] = deque()
        running: list[tuple[float, float, float]] = []  # end, wait, arrival
        next_arrival_s = 0.0
        while self.now_s < duration_s:
            if running and running[0][0] <= next_arrival_s:
                self.now_s, wait_s, arrived_s = heapq.heappop(running)
                outcome.ends_s.append(self.now_s)
                limit.observe(wait_s, arrived_s)
                outcome.limits.append((self.now_s, limit.tokens))
            else:
                self.now_s = next_arrival_s
                next_arrival_s += chance.expovariate(self.arrivals_per_s(self.now_s))
                wanted = (len(queue) + len(running) + 1) * COST_TOKENS
                limit.note_use(wanted)
                if wanted <= limit.tokens:
                    queue.append(self.now_s)
                else:
                    outcome.refused_s.append(self.now_s)
            while queue and len(running) < PLACES:
                arrived_s = queue.popleft()
                outcome.waits.append((self.now_s, self.now_s - arrived_s))
                heapq.heappush(running, (self.now_s + self.latency_s(self.now_s), self.now_s - arrived_s, arrived_s))
        return outcome


SLOW_FROM_S, SLOW_TO_S, END_S = 20.0, 50.0, 80.0


@pytest.fixture(scope="module")
def stepped() -> Outcome:
    """Ten requests a place in 10 ms each; from 20 to 50 s they take 100 ms. Always twice as many as fit arrive."""

    def latency_s(at_s: float) -> float:
        return 0.1 if SLOW_FROM_S <= at_s < SLOW_TO_S else 0.01

    return Simulation(latency_s, lambda at_s: 2 * PLACES / latency_s(at_s)).run(END_S)


@pytest.mark.parametrize(
    ("begin_s", "end_s", "capacity_per_s"),
    [(10.0, SLOW_FROM_S, 800.0), (SLOW_FROM_S + 10, SLOW_TO_S, 80.0), (SLOW_TO_S + 10, END_S, 800.0)],
)
def test_ten_seconds_after_a_step_waits_are_on_target_and_nothing_is_lost(
    stepped: Outcome, begin_s: float, end_s: float, capacity_per_s: float
) -> None:
    assert 0.3 * TARGET_S < stepped.mean_wait_s(begin_s, end_s) < TARGET_S
    assert stepped.ended_per_s(begin_s, end_s) >= 0.98 * capacity_per_s


def test_the_limit_comes_back_to_what_it_was(stepped: Outcome) -> None:
    before, slow, after = (
        stepped.mean_limit(begin_s, end_s)
        for begin_s, end_s in ((10, SLOW_FROM_S), (SLOW_FROM_S + 10, SLOW_TO_S), (SLOW_TO_S + 10, END_S))
    )
    assert slow < before / 2
    assert after == pytest.approx(before, rel=0.2)


def test_below_capacity_nobody_is_refused() -> None:
    outcome = Simulation(lambda _: 0.01, lambda _: 0.7 * PLACES / 0.01).run(30)
    assert not outcome.refused_s
    assert outcome.limits[-1][1] >= OPTIONS.start


def test_a_burst_after_quiet_is_let_in() -> None:
    quiet = Simulation(lambda _: 0.01, lambda at_s: 800.0 if 20 <= at_s < 20.2 else 5.0)
    assert not quiet.run(25).refused_s


def test_it_stays_within_its_bounds() -> None:
    options = LimitOptions(minimum=300, maximum=500, start=10_000, target_s=TARGET_S)
    fast = Simulation(lambda _: 0.001, lambda _: 10_000.0, options).run(5)
    slow = Simulation(lambda _: 5.0, lambda _: 100.0, options).run(60)
    assert {tokens for _, tokens in fast.limits} == {500}
    assert min(tokens for _, tokens in slow.limits) >= 300


def test_one_long_queue_is_cut_for_once() -> None:
    """Those that were admitted before the cut report their long waits after it."""
    now_s = 0.0
    limit = AdaptiveLimit(OPTIONS, lambda: now_s)
    limit.note_use(10_000)
    for step in range(100):
        now_s = 0.1 + 0.02 * step
        limit.observe(1.0, admitted_s=0.0)
    assert limit.tokens == 5_000
