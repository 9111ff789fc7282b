"""Mixed traffic through the gRPC services for a long time, and the memory of every process meanwhile.

`make soak`, or `python -m benchmarks.soak [--minutes 30] [--clients 8] [--output FILE.json]`. After a warm-up, the
first third, memory must stay level: the fitted line may rise by no more than GROWTH_LIMIT of a process's size, or by
SMALL_GROWTH_BYTES in all. Exits with 1 if it does not, if a call fails, or if the engine does not end idle.
"""

import argparse
import contextlib
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.report import machine, table, write_report
from benchmarks.soak_traffic import SoakTraffic, outcome_of
from tests.support.engine_metrics import EngineMetrics, scrape
from tests.support.models import DEMO_MODELS, demo_model, link_model, linked_models
from tests.support.stack import Stack, running_stack

SAMPLE_PERIOD_S = 5.0
WARM_UP_PART = 1 / 3
GROWTH_LIMIT = 0.02
SMALL_GROWTH_BYTES = 8 << 20
# Small, so that all of it is in use early and blocks run out often.
KV_CACHE_BYTES = 128 << 20
EXPECTED = {"OK", "RESOURCE_EXHAUSTED"}


@dataclass(frozen=True)
class MemoryTrend:
    """The resident memory of one process after the warm-up."""

    process: str
    median_bytes: int
    growth_bytes: int  # Of the line fitted to all samples, over their whole time.
    growth_bytes_per_minute: float

    @property
    def is_level(self) -> bool:
        """Whether the growth is within the limits."""
        return self.growth_bytes <= max(SMALL_GROWTH_BYTES, GROWTH_LIMIT * self.median_bytes)


class MemorySampler(threading.Thread):
    """Notes the resident memory of every process of the stack until it is told to stop."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        supervisor = psutil.Process(stack.process.pid)
        self._processes = {"supervisor": supervisor}
        self._processes |= {_name_of(child): child for child in supervisor.children(recursive=True)}
        self._done = threading.Event()
        self.times_s: list[float] = []
        self.bytes: dict[str, list[int]] = {name: [] for name in self._processes}
        self.start()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_PERIOD_S):
            self.times_s.append(time.monotonic())
            for name, process in self._processes.items():
                self.bytes[name].append(process.memory_info().rss)

    def stop(self) -> None:
        """Ends the samples."""
        self._done.set()
        self.join()

    def trends(self) -> list[MemoryTrend]:
        """One a process."""
        start = int(len(self.times_s) * WARM_UP_PART)
        times = self.times_s[start:]
        trends = []
        for name, sizes in self.bytes.items():
            slope = statistics.linear_regression(times, sizes[start:]).slope
            growth = int(slope * (times[-1] - times[0]))
            trends.append(MemoryTrend(name, int(statistics.median(sizes[start:])), growth, 60 * slope))
        return trends


def _name_of(process: psutil.Process) -> str:
    command = process.cmdline()
    if "tritonserver" in Path(command[0]).name:
        return "tritonserver"
    module = next((word for word in command if word.startswith("services.")), "python")
    return f"{module.removeprefix('services.')} {process.pid}"


@contextlib.contextmanager
def soak_repository() -> Iterator[Path]:
    """The demo models, `chat` with a small KV cache."""
    with linked_models({"chat": {"kv_cache_bytes": str(KV_CACHE_BYTES)}}, source=demo_model("chat")) as repository:
        for name in DEMO_MODELS:
            if name != "chat":
                link_model(demo_model(name), repository, name, {})
        yield repository


def put_load_on(stack: Stack, clients: int, minutes: float) -> Counter[tuple[str, str]]:
    """Runs the clients until the time is over; how often each kind of call had each outcome."""
    kinds = SoakTraffic(stack).kinds()
    end = time.monotonic() + 60 * minutes
    outcomes = Counter[tuple[str, str]]()
    lock = threading.Lock()

    def client(seed: int) -> None:
        chance = random.Random(seed)
        while time.monotonic() < end:
            kind = chance.choice(list(kinds))
            outcome = outcome_of(kinds[kind], chance)
            with lock:
                outcomes[kind, outcome] += 1

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def faults(trends: list[MemoryTrend], outcomes: Counter[tuple[str, str]], engine: EngineMetrics) -> list[str]:
    """Everything that is wrong."""
    wrong = [
        f"{one.process} grew by {one.growth_bytes / 2**20:.1f} MiB after the warm-up"
        for one in trends
        if not one.is_level
    ]
    failed = ((kind, code, count) for (kind, code), count in sorted(outcomes.items()) if code not in EXPECTED)
    wrong += [f"{count} calls {kind} ended with {code}" for kind, code, count in failed]
    if engine.unfinished or engine.blocks("used"):
        wrong.append(f"{engine.unfinished:.0f} requests and {engine.blocks('used'):.0f} blocks are still in use")
    return wrong


def summary(trends: list[MemoryTrend], outcomes: Counter[tuple[str, str]], engine: EngineMetrics) -> str:
    """Tables of memory and calls, and what the engine did."""
    heads = ("process", "median", "growth after warm-up", "slope", "")
    memory = (
        (
            one.process,
            f"{one.median_bytes / 2**20:.0f} MiB",
            f"{one.growth_bytes / 2**20:+.1f} MiB",
            f"{one.growth_bytes_per_minute / 2**10:+.0f} KiB/min",
            "level" if one.is_level else "GROWS",
        )
        for one in trends
    )
    calls = ((kind, code, str(count)) for (kind, code), count in sorted(outcomes.items()))
    cached, prompts = (engine.total(f"naiad_{name}_total") for name in ("prefix_cache_hit_tokens", "prompt_tokens"))
    return "\n".join(
        (
            table(heads, memory),
            table(("call", "outcome", "times"), calls),
            f"{engine.total('naiad_num_preemptions_total'):.0f} preemptions, "
            f"{cached:.0f} of {prompts:.0f} prompt tokens from the cache",
        )
    )


def main() -> None:
    """Soaks, prints tables and a verdict, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/soak.json"))
    arguments = parser.parse_args()
    with (
        soak_repository() as repository,
        tempfile.TemporaryDirectory() as folder,
        running_stack(repository, Path(folder)) as stack,
    ):
        sampler = MemorySampler(stack)
        outcomes = put_load_on(stack, arguments.clients, arguments.minutes)
        sampler.stop()
        engine = EngineMetrics.parse(scrape(stack.metrics_ports["triton"]), "chat")
    trends = sampler.trends()
    wrong = faults(trends, outcomes, engine)
    print(f"{machine()}\n{summary(trends, outcomes, engine)}")
    print("verdict: " + ("; ".join(wrong) or f"memory level and all well after {arguments.minutes:g} minutes"))
    figures = {
        "minutes": arguments.minutes,
        "clients": arguments.clients,
        "memory": [asdict(one) for one in trends],
        "calls": [{"kind": kind, "outcome": code, "times": count} for (kind, code), count in outcomes.items()],
        "preemptions": engine.total("naiad_num_preemptions_total"),
        "wrong": wrong,
        "samples": {"times_s": sampler.times_s, "bytes": sampler.bytes},
    }
    write_report(arguments.output, figures)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
