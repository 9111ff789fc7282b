"""Goodput, latencies and refusals at 1, 2, 4 and 10 times what the system can do.

`make bench-overload`, or `python -m benchmarks.overload [--kinds chat classification] [--seconds 12] [--output
FILE.json] [--plot FILE.svg]`. The real stack on the demo models. The load generator is one process on the same cores as
what it loads; as root it runs first there, and its share is in the figures. Goals: at 4 times the capacity goodput of
at least GOAL_GOODPUT of the best, first answers of admitted calls within GOAL_STRETCH times those without load plus the
queue target, refusals within GOAL_REFUSAL_MS; memory level.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.overload.calls import KINDS, Calls, open_channel
from benchmarks.overload.load import Figures, Phase, Watch, figures
from benchmarks.overload.plot import draw
from benchmarks.report import table, write_report
from services.common.settings import ClassificationSettings, GenerationSettings
from tests.support.models import demo_repository
from tests.support.stack import Stack, running_stack

CLIENTS = {"chat": 32, "classification": 8}  # enough to fill the engine
UNLOADED = 0.2
FACTORS = (1.0, 2.0, 4.0, 10.0)
GOAL_GOODPUT = 0.95
GOAL_STRETCH = 2.0
GOAL_REFUSAL_MS = 5.0
GOAL_GROWTH_MIB = 64.0
QUEUE_TARGET_MS = {
    "chat": GenerationSettings().queue_target_ms,
    "classification": ClassificationSettings().queue_target_ms,
}


def _running_stack(folder: Path) -> AbstractContextManager[Stack]:
    """The system with the limits that users get; tests have fixed ones."""
    return running_stack(
        demo_repository(),
        folder,
        NAIAD_GENERATION_QUEUE_TARGET_MS=str(QUEUE_TARGET_MS["chat"]),
        NAIAD_CLASSIFICATION_QUEUE_TARGET_MS=str(QUEUE_TARGET_MS["classification"]),
    )


def _watch(stack: Stack, service: str) -> Watch:
    found: dict[str, psutil.Process] = {}
    for child in psutil.Process(stack.process.pid).children(recursive=True):
        command = " ".join(child.cmdline())
        if f"services.{service}" in command:
            found["service"] = child
        elif "tritonserver" in command:
            found["triton"] = child
    return Watch(found["service"], found["triton"])


@dataclass(frozen=True)
class Load:
    """What is put on the system: calls that arrive at a rate, or clients with one call after the other."""

    name: str
    seconds: float
    clients: int = 0
    rate_per_s: float = 0.0


async def _phase(load: Load, calls: Calls, stack: Stack) -> Figures:
    watch = _watch(stack, calls.service)
    watcher = asyncio.create_task(watch.run())
    own, begun_s = psutil.Process(), time.monotonic()
    cpu_before = own.cpu_times()
    phase = Phase(calls)
    if load.clients:
        await phase.closed(load.clients, load.seconds)
    else:
        await phase.at_rate(load.rate_per_s, load.seconds)
    cpu_after = own.cpu_times()
    used_s = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    watcher.cancel()
    return figures(load.name, phase.done, load.seconds, used_s / (time.monotonic() - begun_s), watch)


def go_first() -> None:
    """Lets the threads of the load generator run before all others, where that is permitted.

    On cores that the engine fills, its own wait for one would be taken for the service's. What it starts later, the
    system of the next kind of load, does not inherit this.
    """
    for thread in psutil.Process().threads():
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(thread.id, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))


async def measure(stack: Stack, kind: str, seconds: float) -> list[Figures]:
    """All phases of one kind of load."""
    make = KINDS[kind]
    async with open_channel(stack, make.service) as channel:
        calls = make(channel)
        await _phase(Load("warm-up", min(3.0, seconds), CLIENTS[kind]), calls, stack)
        go_first()
        rows = [await _phase(Load("as much as it takes", seconds, CLIENTS[kind]), calls, stack)]
        capacity = rows[0].admitted_per_s
        for factor in (UNLOADED, *FACTORS):
            load = Load(f"{factor:g} x", seconds, rate_per_s=factor * capacity)
            rows.append(await _phase(load, calls, stack))
            print(asdict(rows[-1]), flush=True)
    return rows


def verdicts(kind: str, rows: list[Figures]) -> dict[str, bool]:
    """Which goals are met."""
    by_load = {row.load: row for row in rows}
    peak = max(row.goodput_per_s for row in rows)
    unloaded, fourfold = by_load[f"{UNLOADED:g} x"], by_load["4 x"]
    most_ms = GOAL_STRETCH * unloaded.first_p99_ms + QUEUE_TARGET_MS[kind]
    overloaded = [by_load[f"{factor:g} x"] for factor in FACTORS if factor > 1]
    growth_mib = overloaded[-1].service_rss_mib - rows[0].service_rss_mib
    return {
        f"goodput at 4 x is at least {GOAL_GOODPUT:.0%} of the best": fourfold.goodput_per_s >= GOAL_GOODPUT * peak,
        f"first answer p99 at 4 x is within {most_ms:.0f} ms": fourfold.first_p99_ms <= most_ms,
        f"refusal p99 is within {GOAL_REFUSAL_MS:g} ms": all(
            row.refusal_p99_ms <= GOAL_REFUSAL_MS for row in overloaded
        ),
        f"memory of the service grows by less than {GOAL_GROWTH_MIB:g} MiB": growth_mib < GOAL_GROWTH_MIB,
    }


def page(kind: str, rows: list[Figures]) -> str:
    """The figures of one kind as Markdown."""
    heads = (
        "load", "calls/s", "refused/s", "tokens/s", "first p50 / p99 ms", "whole p50 / p99 ms",
        "refusal p50 / p99 ms", "client: lag p99 ms, cores", "service, Triton MiB",
    )  # fmt: skip
    lines = (
        (
            row.load,
            f"{row.offered_per_s:.1f}",
            f"{row.refused_per_s:.1f}",
            f"{row.goodput_per_s:.0f}",
            f"{row.first_p50_ms:.0f} / {row.first_p99_ms:.0f}",
            f"{row.latency_p50_ms:.0f} / {row.latency_p99_ms:.0f}",
            f"{row.refusal_p50_ms:.1f} / {row.refusal_p99_ms:.1f}" if row.refused_per_s else "-",
            f"{row.begin_lag_p99_ms:.1f}, {row.client_cpu:.2f}",
            f"{row.service_rss_mib:.0f}, {row.triton_rss_mib:.0f}",
        )
        for row in rows
    )
    goals = "\n".join(f"- {'met' if met else 'MISSED'}: {goal}" for goal, met in verdicts(kind, rows).items())
    return f"## {kind}\n\n{table(heads, lines)}\n\n{goals}\n"


def main() -> int:
    """Runs the benchmark; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--seconds", type=float, default=12.0)
    parser.add_argument("--output", type=Path, default=Path("build/overload.json"))
    parser.add_argument("--plot", type=Path, default=Path("build/overload.svg"))
    options = parser.parse_args()
    rows: dict[str, list[Figures]] = {}
    for kind in options.kinds:  # a stack each: what one load leaves behind is not the other's
        with tempfile.TemporaryDirectory() as folder, _running_stack(Path(folder)) as stack:
            rows[kind] = asyncio.run(measure(stack, kind, options.seconds))
        print(page(kind, rows[kind]))
    met = {kind: verdicts(kind, found) for kind, found in rows.items()}
    report = {
        "seconds_a_phase": options.seconds,
        "goals": met,
        "phases": {kind: [asdict(row) for row in found] for kind, found in rows.items()},
    }
    write_report(options.output, report)
    draw(rows, options.plot)
    return 0 if all(all(goals.values()) for goals in met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
