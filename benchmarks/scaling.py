"""Throughput from 1 to 64 streams through the gRPC services, and where the time of the engine and the CPU goes.

`python -m benchmarks.scaling [--decoder chat] [--streams 1,2,4] [--repeats 3] [--output FILE.json]`. Goals: no number
of streams is slower than a smaller one; with 32 streams at most a twentieth of the engine thread's time is spent
outside model and sampling, and at most a tenth of the server's CPU outside the engine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cpu_time import CpuTime, cpu_time
from benchmarks.figures import decode_figures
from benchmarks.report import machine, table, write_report
from benchmarks.systems.adapters.naiad import ServiceClient, serve
from benchmarks.systems.protocol import Request
from benchmarks.workloads import prompts
from tests.support.engine_metrics import EngineMetrics, scrape
from tests.support.models import demo_model, linked_models
from tests.support.stack import Stack, running_stack

STREAMS = (1, 2, 4, 8, 16, 32, 48, 64)
NEW_TOKENS = 96
KV_CACHE_BYTES = 1 << 30
REST_GOAL, AROUND_GOAL, GOAL_STREAMS = 0.05, 0.1, 32
# Throughput that is lower by less than this is noise of the machine.
TOLERANCE = 0.02
ACTIVITIES = ("model", "sampling", "rest")


@dataclass(frozen=True)
class Result:
    """Streams that begin together, all in all."""

    streams: int
    decode_tokens_per_second: float
    engine_seconds: dict[str, float]  # Of the engine thread, by activity.
    cpu: CpuTime

    @property
    def rest(self) -> float:
        """The part of the engine thread's working time that is neither model nor sampling, 0 to 1."""
        return self.engine_seconds["rest"] / sum(self.engine_seconds.values())


class Measured:
    """A running system, asked as a client asks it."""

    def __init__(self, stack: Stack, model: str) -> None:
        self._stack = stack
        self._model = model

    async def run(self, streams: int, variant: str) -> Result:
        """That many streams at once."""
        requests = [Request(tuple(prompt), NEW_TOKENS) for prompt in prompts(streams, variant=f"{streams} {variant}")]
        client = ServiceClient(self._stack.address("generation"), self._model)
        seconds_before, cpu_before = self._engine_seconds(), cpu_time(self._stack.process.pid)
        answers = await serve(client, requests, reuse_prefix=False)
        cpu = cpu_time(self._stack.process.pid) - cpu_before
        seconds = self._engine_seconds()
        await client.close()
        return Result(
            streams,
            decode_figures(answers).decode_tokens_per_second,
            {name: seconds[name] - seconds_before[name] for name in ACTIVITIES},
            cpu,
        )

    def _engine_seconds(self) -> dict[str, float]:
        metrics = EngineMetrics.parse(scrape(self._stack.metrics_ports["triton"]), self._model)
        return {name: metrics["naiad_engine_seconds_total", f"activity={name}"] for name in ACTIVITIES}


def median_of(results: Sequence[Result]) -> Result:
    """Of several with the same number of streams."""
    return Result(
        results[0].streams,
        statistics.median(one.decode_tokens_per_second for one in results),
        {name: statistics.median(one.engine_seconds[name] for one in results) for name in ACTIVITIES},
        CpuTime(
            *(
                statistics.median(getattr(one.cpu, field) for one in results)
                for field in ("engine_s", "triton_s", "services_s", "client_s")
            )
        ),
    )


def report_of(medians: Sequence[Result]) -> str:
    """A table and a line for each goal."""
    heads = ("streams", "tokens/s", "engine: model", "sampling", "rest", "CPU: engine", "Triton", "services", "client")
    rows = []
    for one in medians:
        busy_s, cpu_s = sum(one.engine_seconds.values()), one.cpu.server_s + one.cpu.client_s
        parts = [f"{one.engine_seconds[name] / busy_s:.1%}" for name in ACTIVITIES]
        shares = [part / cpu_s for part in (one.cpu.engine_s, one.cpu.triton_s, one.cpu.services_s, one.cpu.client_s)]
        rows.append((f"{one.streams}", f"{one.decode_tokens_per_second:.0f}", *parts, *(f"{s:.1%}" for s in shares)))
    falls = [
        f"{after.streams} after {before.streams}"
        for before, after in itertools.pairwise(medians)
        if after.decode_tokens_per_second < (1 - TOLERANCE) * before.decode_tokens_per_second
    ]
    lines = [table(heads, rows), f"throughput falls: {', '.join(falls) or 'nowhere'}"]
    lines += [
        f"{one.streams} streams: rest of the engine {one.rest:.1%} (goal {REST_GOAL:.0%}), "
        f"server's CPU around the engine {one.cpu.around_engine:.1%} (goal {AROUND_GOAL:.0%})"
        for one in medians
        if one.streams == GOAL_STREAMS
    ]
    return "\n".join(lines)


async def measure(measured: Measured, streams: Sequence[int], repeats: int) -> list[Result]:
    """Medians of some rounds, after one of 8 streams that is not counted."""
    await measured.run(8, "warm-up")
    rounds = []
    for number in range(repeats):
        rounds.append([await measured.run(count, str(number)) for count in streams])
    return [median_of(results) for results in zip(*rounds, strict=True)]


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__)
    parser.add_argument("--decoder", default="chat", help="model of the repository (%(default)s)")
    parser.add_argument("--streams", default=",".join(map(str, STREAMS)), help="(%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/scaling.json"))
    arguments = parser.parse_args()
    streams = sorted(int(count) for count in arguments.streams.split(","))
    variant = {"max_draft_tokens": "0", "kv_cache_bytes": str(KV_CACHE_BYTES), "max_active_requests": "64"}
    with (
        linked_models({arguments.decoder: variant}, source=demo_model(arguments.decoder)) as repository,
        tempfile.TemporaryDirectory() as folder,
        running_stack(repository, Path(folder)) as stack,
    ):
        medians = asyncio.run(measure(Measured(stack, arguments.decoder), streams, arguments.repeats))
    print(f"{json.dumps(machine())}\n{report_of(medians)}")
    runs = [{**asdict(one), "rest": one.rest, "around_engine": one.cpu.around_engine} for one in medians]
    write_report(arguments.output, {"decoder": arguments.decoder, "new_tokens": NEW_TOKENS, "runs": runs})


if __name__ == "__main__":
    main()
