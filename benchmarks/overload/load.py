"""Puts load on a service: as much as it takes, or at a rate of its own, whatever the service does.

At a rate, calls begin at times that were drawn before (Poisson arrivals), and every latency counts from that time: a
call that begins late because others were slow has waited, too.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import psutil

from benchmarks.overload.calls import Calls
from benchmarks.report import percentile

OVERLOADED = "RESOURCE_EXHAUSTED"
SETTLE_PART = 0.3  # of a phase: what came in before it is settled is not counted
_SAMPLE_PERIOD_S = 0.5


@dataclass(frozen=True)
class Done:
    """One call. Times are in seconds after the phase began."""

    planned_s: float
    begun_s: float
    first_s: float
    ended_s: float
    code: str
    work: int

    @property
    def latency_s(self) -> float:
        """From the time at which it should have begun."""
        return self.ended_s - self.planned_s


@dataclass(frozen=True)
class Figures:
    """One phase. Latencies count from the planned beginning; 0 where there is nothing to count."""

    load: str
    offered_per_s: float
    admitted_per_s: float
    refused_per_s: float
    goodput_per_s: float  # Work of calls that succeeded, by the time of their end.
    first_p50_ms: float
    first_p99_ms: float
    latency_p50_ms: float
    latency_p99_ms: float
    refusal_p50_ms: float
    refusal_p99_ms: float
    begin_lag_p99_ms: float  # How late the load generator itself was.
    client_cpu: float  # Cores that the load generator used.
    codes: dict[str, int]
    service_rss_mib: float  # The largest during the phase.
    triton_rss_mib: float


@dataclass
class Watch:
    """The processes under load: their largest memory."""

    service: psutil.Process
    triton: psutil.Process
    peaks: dict[str, float] = field(default_factory=dict)

    def sample(self) -> None:
        """Looks at them once."""
        for name, process in (("service", self.service), ("triton", self.triton)):
            self.peaks[name] = max(self.peaks.get(name, 0.0), process.memory_info().rss / 2**20)

    async def run(self) -> None:
        """Looks until it is cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(_SAMPLE_PERIOD_S)


class Phase:
    """Makes calls and notes how each ended."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._began_s = time.monotonic()
        self.done: list[Done] = []

    def now_s(self) -> float:
        """Seconds since the phase began."""
        return time.monotonic() - self._began_s

    async def call(self, number: int, planned_s: float) -> float:
        """One call, which notes its end itself; gives the seconds after which it may be tried again."""
        begun_s = self.now_s()
        first_s, work, code, retry_s = 0.0, 0, "OK", 0.0
        try:
            answer = await self._calls(number)
            first_s, work = answer.first_s - self._began_s, answer.work
        except grpc.aio.AioRpcError as error:
            code = error.code().name
            retry_s = int(dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", 0)) / 1000
        self.done.append(Done(planned_s, begun_s, first_s, self.now_s(), code, work))
        return retry_s

    async def closed(self, clients: int, seconds: float) -> None:
        """So many clients, each with one call after the other, who wait as long as they are told."""

        async def client(index: int) -> None:
            number = index
            while self.now_s() < seconds:
                await asyncio.sleep(await self.call(number, self.now_s()))
                number += clients

        await asyncio.gather(*map(client, range(clients)))

    async def at_rate(self, per_s: float, seconds: float) -> None:
        """Calls that arrive by themselves."""
        chance = random.Random(7)
        tasks: set[asyncio.Task[float]] = set()
        planned_s, number = chance.expovariate(per_s), 0
        while planned_s < seconds:
            await asyncio.sleep(max(0.0, planned_s - self.now_s()))
            task = asyncio.create_task(self.call(number, planned_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            planned_s, number = planned_s + chance.expovariate(per_s), number + 1
        await asyncio.gather(*tasks)


def figures(load: str, done: Sequence[Done], seconds: float, client_cpu: float, watch: Watch) -> Figures:
    """What one phase showed, once it had settled."""
    begin_s = SETTLE_PART * seconds
    window_s = seconds - begin_s
    arrived = [one for one in done if begin_s <= one.planned_s < seconds]
    good = [one for one in arrived if one.code == "OK"]
    refused = [one for one in arrived if one.code == OVERLOADED]
    finished = sum(one.work for one in done if one.code == "OK" and begin_s <= one.ended_s < seconds)

    def ms(values: list[float], part: float) -> float:
        return round(1e3 * percentile(values, part), 2) if values else 0.0

    first = [one.first_s - one.planned_s for one in good]
    whole, refusals = [one.latency_s for one in good], [one.latency_s for one in refused]
    return Figures(
        load=load,
        offered_per_s=round(len(arrived) / window_s, 2),
        admitted_per_s=round(len(good) / window_s, 2),
        refused_per_s=round(len(refused) / window_s, 2),
        goodput_per_s=round(finished / window_s, 1),
        first_p50_ms=ms(first, 0.5),
        first_p99_ms=ms(first, 0.99),
        latency_p50_ms=ms(whole, 0.5),
        latency_p99_ms=ms(whole, 0.99),
        refusal_p50_ms=ms(refusals, 0.5),
        refusal_p99_ms=ms(refusals, 0.99),
        begin_lag_p99_ms=ms([one.begun_s - one.planned_s for one in arrived], 0.99),
        client_cpu=round(client_cpu, 2),
        codes=dict(Counter(one.code for one in arrived)),
        service_rss_mib=round(watch.peaks["service"], 1),
        triton_rss_mib=round(watch.peaks["triton"], 1),
    )
