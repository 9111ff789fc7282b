"""What processes of a running system hold, sampled over time: memory, descriptors, threads, tasks; and its trends."""

import contextlib
import itertools
import re
import statistics
import threading
import time
import urllib.error
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.support.engine_metrics import scrape
from tests.support.stack import Stack

SAMPLE_PERIOD_S = 5.0
# A process grows to its working size first: it touches the blocks of its cache and meets each kind of call. One that
# has begun within the warm-up of the whole system has had that much time, if it is less.
SETTLE_S = 300.0
# Slopes between neighbouring samples are noise.
LEAST_STEP_S = 30.0
_TASKS = re.compile(r"^naiad_event_loop_tasks (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Quantity:
    """Something that must not grow: by no more than `small_growth` in all, or `growth_limit` of its size."""

    name: str
    unit: str
    scale: float
    small_growth: float
    growth_limit: float = 0.0


QUANTITIES = (
    Quantity("memory", "MiB", 2**20, 8 << 20, 0.02),
    Quantity("descriptors", "", 1, 4),
    Quantity("threads", "", 1, 2),
    Quantity("tasks", "", 1, 4),
)


@dataclass(frozen=True)
class Sample:
    """One process at one time; quantities by name."""

    time_s: float
    pid: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Trend:
    """One quantity of one part of the system, over all processes that played it one after the other.

    `judged_s` is how long the longest of them was looked at, and `growth` what the slope makes of that time: what a
    process holds ends with it.
    """

    part: str
    quantity: str
    processes: int
    judged_s: float
    median: float
    growth: float
    growth_per_minute: float
    is_level: bool


def slope_of(samples: Sequence[Sample], quantity: str) -> float | None:
    """Theil-Sen: the median of the slopes between any two samples of the same process; None when there are too few."""
    slopes = [
        (later.values[quantity] - earlier.values[quantity]) / (later.time_s - earlier.time_s)
        for earlier, later in itertools.combinations(samples, 2)
        if earlier.pid == later.pid and later.time_s - earlier.time_s >= LEAST_STEP_S
    ]
    return statistics.median(slopes) if slopes else None


def trend_of(part: str, samples: Sequence[Sample], quantity: Quantity) -> Trend | None:
    """The trend of `samples`, which are in the order of time; None when they are too few to tell."""
    known = [sample for sample in samples if quantity.name in sample.values]
    slope = slope_of(known, quantity.name)
    if slope is None:
        return None
    median = statistics.median(sample.values[quantity.name] for sample in known)
    times: dict[int, list[float]] = {}
    for sample in known:
        times.setdefault(sample.pid, []).append(sample.time_s)
    judged_s = max(of_one[-1] - of_one[0] for of_one in times.values())
    growth = slope * judged_s
    limit = max(quantity.small_growth, quantity.growth_limit * median)
    return Trend(part, quantity.name, len(times), judged_s, median, growth, 60 * slope, growth <= limit)


class ProcessSampler(threading.Thread):
    """Notes what every process of the stack holds until it is told to stop."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self._supervisor = psutil.Process(stack.process.pid)
        self._metrics_ports = stack.metrics_ports
        self._done = threading.Event()
        self._first_seen_s: dict[int, float] = {}
        self.samples: dict[str, list[Sample]] = {}
        self.start()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_PERIOD_S):
            for part, process in self._processes():
                # A fault may end it while it is looked at.
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    self._note(part, process)

    def _processes(self) -> Iterator[tuple[str, psutil.Process]]:
        yield "supervisor", self._supervisor
        for child in self._supervisor.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                yield _part_of(child), child

    def _note(self, part: str, process: psutil.Process) -> None:
        values: dict[str, float] = {
            "memory": process.memory_info().rss,
            "descriptors": process.num_fds(),
            "threads": process.num_threads(),
        }
        if part in self._metrics_ports:
            with contextlib.suppress(OSError, urllib.error.URLError):
                if (tasks := _TASKS.search(scrape(self._metrics_ports[part]))) is not None:
                    values["tasks"] = float(tasks.group(1))
        now_s = time.monotonic()
        self._first_seen_s.setdefault(process.pid, now_s)
        self.samples.setdefault(part, []).append(Sample(now_s, process.pid, values))

    def stop(self) -> None:
        """Ends the samples."""
        self._done.set()
        self.join()

    def trends(self, warm_up_part: float) -> list[Trend]:
        """Of each part, after the first `warm_up_part` (0 to 1) of the time and the first SETTLE_S of each process."""
        times = [sample.time_s for samples in self.samples.values() for sample in samples]
        warm_up_s = warm_up_part * (max(times) - min(times))
        begin_s, settle_s = min(times) + warm_up_s, min(SETTLE_S, warm_up_s)
        trends = []
        for part, samples in self.samples.items():
            settled = [
                sample
                for sample in samples
                if sample.time_s >= begin_s and sample.time_s >= self._first_seen_s[sample.pid] + settle_s
            ]
            trends += [trend for quantity in QUANTITIES if (trend := trend_of(part, settled, quantity)) is not None]
        return trends


def _part_of(process: psutil.Process) -> str:
    command = process.cmdline()
    if command and "tritonserver" in Path(command[0]).name:
        return "tritonserver"
    module = next((word for word in command if word.startswith("services.")), "other")
    return module.removeprefix("services.")
