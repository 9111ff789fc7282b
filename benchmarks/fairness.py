"""A long prompt arrives while streams are in flight: how much their tokens slow down, and how long it waits itself.

`python -m benchmarks.fairness [--streams 16] [--prompt-tokens 4000] [--repeats 3] [--output FILE.json]`. Once straight
from Triton and once through the generation service. The goal: while the prompt is computed, the streams' inter-token
p99 stays within 3 times the median that they had before it came.
"""

import argparse
import asyncio
import itertools
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from naiad.v1 import generation_pb2, generation_pb2_grpc

from benchmarks.report import machine, percentile, table, write_report
from benchmarks.token_times import TimedGeneration, begin, follow
from tests.support.models import demo_model, linked_models
from tests.support.stack import Stack, running_stack
from tests.support.triton import run_triton
from tests.support.triton_stream import InferStream, stop_message

GOAL = 3.0
STREAM_PROMPT_TOKENS = 64
# Deliveries of every stream before the long prompt is sent.
WARM_DELIVERIES = 40
# Room for all of it: about 15,000 tokens of `chat`.
KV_CACHE_BYTES = 1 << 30
MODEL = "chat"


@dataclass(frozen=True)
class Load:
    """What is put on the engine."""

    streams: int
    prompt_tokens: int

    def prompts(self, seed: int) -> list[list[int]]:
        """The streams' prompts, and the long one last; none has a prefix in common with another's."""
        chance = random.Random(seed)
        sizes = [STREAM_PROMPT_TOKENS] * self.streams + [self.prompt_tokens]
        return [[chance.randrange(300, 30_000) for _ in range(size)] for size in sizes]


@dataclass(frozen=True)
class Result:
    """Gaps between deliveries of the streams, before the long prompt came and while it was computed."""

    path: str
    before_p50_ms: float
    before_p99_ms: float
    during_p50_ms: float
    during_p99_ms: float
    during_max_ms: float
    p99_to_median_before: float
    p99_to_median_during: float
    deliveries_during: int
    time_to_first_token_ms: float


def summed_up(path: str, deliveries: list[list[float]], sent_s: float, first_token_s: float) -> Result:
    """Splits the gaps at the arrival of the long prompt; those that end after its first token do not count."""
    before: list[float] = []
    during: list[float] = []
    for times in deliveries:
        # The first deliveries come while other streams' prompts are still computed.
        for start, end in itertools.pairwise(times[WARM_DELIVERIES // 2 :]):
            if end <= sent_s:
                before.append(1e3 * (end - start))
            elif end <= first_token_s:
                during.append(1e3 * (end - start))
    median, p99 = statistics.median(before), percentile(during, 0.99)
    return Result(
        path=path,
        before_p50_ms=median,
        before_p99_ms=percentile(before, 0.99),
        during_p50_ms=statistics.median(during),
        during_p99_ms=p99,
        during_max_ms=max(during),
        p99_to_median_before=p99 / median,
        p99_to_median_during=p99 / statistics.median(during),
        deliveries_during=len(during),
        time_to_first_token_ms=1e3 * (first_token_s - sent_s),
    )


async def over_triton(address: str, load: Load, seed: int) -> Result:
    """One run on one multiplexed stream."""
    *short, long = load.prompts(seed)
    async with InferStream(address) as stream:
        timed = [
            await begin(stream, MODEL, f"s{number}", prompt, 2000, ignore_eos=True)
            for number, prompt in enumerate(short)
        ]
        warm = asyncio.Event()

        def note() -> None:
            if all(len(one.delivered_s) >= WARM_DELIVERIES for one in timed):
                warm.set()

        readers = [asyncio.create_task(follow(stream, f"s{number}", one, note)) for number, one in enumerate(timed)]
        await warm.wait()
        late: TimedGeneration = await begin(stream, MODEL, "late", long, 4, ignore_eos=True)
        await follow(stream, "late", late)
        for number in range(len(short)):
            await stream.send(stop_message(MODEL, f"s{number}"))
        await asyncio.gather(*readers)
    deliveries = [one.delivered_s for one in timed]
    return summed_up("Triton", deliveries, late.sent_s, late.delivered_s[0])


class _ServiceStream(threading.Thread):
    """One stream of the generation service, in a thread of its own."""

    def __init__(self, stack: Stack, prompt: list[int], max_tokens: int, on_delivery: Callable[[], None]) -> None:
        super().__init__()
        request = generation_pb2.GenerateStreamRequest(model=MODEL)
        request.token_ids.ids.extend(prompt)
        request.sampling.temperature = 0
        request.stopping.max_tokens, request.stopping.ignore_eos = max_tokens, True
        request.response.return_token_ids = True
        self.delivered_s: list[float] = []
        self.sent_s = time.perf_counter()
        self._on_delivery = on_delivery
        self._call = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation")).GenerateStream(
            request, timeout=600
        )
        self.start()

    def run(self) -> None:
        try:
            for event in self._call:
                if event.HasField("delta") and event.delta.token_ids:
                    self.delivered_s.append(time.perf_counter())
                    self._on_delivery()
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.CANCELLED:
                raise

    def leave(self) -> None:
        """Ends the call."""
        self._call.cancel()
        self.join()


def over_service(stack: Stack, load: Load, seed: int) -> Result:
    """One run over gRPC, one call a stream."""
    *short, long = load.prompts(seed)
    delivered = threading.Condition()

    def note() -> None:
        with delivered:
            delivered.notify_all()

    streams = [_ServiceStream(stack, prompt, 2000, note) for prompt in short]
    with delivered:
        delivered.wait_for(lambda: all(len(one.delivered_s) >= WARM_DELIVERIES for one in streams), 300)
    late = _ServiceStream(stack, long, 4, note)
    late.join()
    for one in streams:
        one.leave()
    return summed_up("gRPC service", [one.delivered_s for one in streams], late.sent_s, late.delivered_s[0])


def summary(results: list[Result]) -> str:
    """A table of all runs."""
    heads = ("path", "before p50 / p99", "during p50 / p99 / max", "p99 to median before", "TTFT of the prompt")
    return table(
        heads,
        (
            (
                one.path,
                f"{one.before_p50_ms:.0f} / {one.before_p99_ms:.0f} ms",
                f"{one.during_p50_ms:.0f} / {one.during_p99_ms:.0f} / {one.during_max_ms:.0f} ms",
                f"{one.p99_to_median_before:.2f}",
                f"{one.time_to_first_token_ms / 1e3:.1f} s",
            )
            for one in results
        ),
    )


def main() -> None:
    """Measures, prints a table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--prompt-tokens", type=int, default=4000)
    parser.add_argument("--repeats", type=int, default=3, help="runs on each path (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/fairness.json"))
    arguments = parser.parse_args()
    load = Load(arguments.streams, arguments.prompt_tokens)
    results: list[Result] = []

    def note(result: Result) -> None:
        results.append(result)
        print(f"{result.path}: {result.p99_to_median_before:.2f} times the median", flush=True)

    # A guess that holds makes a step longer and brings several tokens at once: gaps would say little.
    variant = {MODEL: {"kv_cache_bytes": str(KV_CACHE_BYTES), "max_draft_tokens": "0"}}
    with linked_models(variant, source=demo_model(MODEL)) as repository:
        with run_triton(repository) as server:
            for seed in range(arguments.repeats):
                note(asyncio.run(over_triton(server.grpc_address, load, seed)))
        with tempfile.TemporaryDirectory() as folder, running_stack(repository, Path(folder)) as stack:
            for seed in range(arguments.repeats):
                note(over_service(stack, load, seed))
    worst = max(one.p99_to_median_before for one in results)
    print(f"{machine()}\n{summary(results)}")
    print(f"worst p99 is {worst:.2f} times the median before; the goal is at most {GOAL:g}")
    write_report(arguments.output, {**asdict(load), "runs": [asdict(one) for one in results]})


if __name__ == "__main__":
    main()
