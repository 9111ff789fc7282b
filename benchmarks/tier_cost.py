"""What the Python services add to a call: the same call straight to Triton with token ids made before, in turns.

`python -m benchmarks.tier_cost [--decoder chat] [--encoder embed] [--turns 6] [--loads NAME,...] [--output FILE.json]`.
Goals: with one client at most 1 ms more at the median and 3 ms at the 99th percentile, and with 32 streams at most a
tenth of the server's CPU in the services. Beside `embed` stands a relay that does nothing (`empty_relay.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from naiad.v1 import classification_pb2, classification_pb2_grpc, generation_pb2, generation_pb2_grpc
from tokenizers import Tokenizer
from tritonclient.grpc import service_pb2_grpc

from benchmarks.cpu_time import CpuTime, cpu_time
from benchmarks.report import machine, percentile, table, write_report
from benchmarks.systems.encoder_catalogue import BENCH_MODELS
from tests.support.models import demo_model, link_model
from tests.support.stack import REPOSITORY_ROOT, Stack, running_stack
from tests.support.triton_stream import InferStream, generate_request, infer_request

P50_GOAL_MS, P99_GOAL_MS, CPU_GOAL = 1.0, 3.0, 0.1
GOAL_STREAMS = 32
STREAM_TOKENS = 64
TEXT = "A short text of a dozen words, as a client may send it."
# One call; the seconds until the first part of the answer, None if it has one part only.
Call = Callable[[], Awaitable[float | None]]


@dataclass(frozen=True)
class Load:
    """One kind of call: `calls` of them a turn, by that many clients. `relayed` is the direct one, handed on."""

    name: str
    asked: str  # The service's name.
    direct: Call
    through: Call
    clients: int
    calls: int
    relayed: Call | None = None


@dataclass
class Samples:
    """One way of one load."""

    seconds: list[float] = field(default_factory=list)
    first_part_seconds: list[float] = field(default_factory=list)
    cpu: CpuTime = field(default_factory=CpuTime)

    def figures(self) -> dict[str, float]:
        """For the report; CPU in milliseconds a call."""
        calls = len(self.seconds)
        found = {"calls": float(calls), "p50_ms": _ms(self.seconds, 0.5), "p99_ms": _ms(self.seconds, 0.99)}
        if self.first_part_seconds:
            found["first_part_p50_ms"] = _ms(self.first_part_seconds, 0.5)
            found["first_part_p99_ms"] = _ms(self.first_part_seconds, 0.99)
        return found | {name.replace("_s", "_cpu_ms"): 1e3 * used / calls for name, used in asdict(self.cpu).items()}


@dataclass(frozen=True)
class Result:
    """The ways of one load."""

    load: str
    clients: int
    direct: dict[str, float]
    service: dict[str, float]
    relay: dict[str, float] | None = None

    def added(self, figure: str) -> float:
        """What the services add to a figure, in its unit."""
        return self.service[figure] - self.direct[figure]

    @property
    def service_share(self) -> float:
        """The asked service's part of the server's CPU, 0 to 1."""
        parts = [self.service[f"{name}_cpu_ms"] for name in ("engine", "triton", "services")]
        return parts[2] / sum(parts)


def _ms(seconds: list[float], part: float) -> float:
    return 1e3 * percentile(seconds, part)


class DirectCalls:
    """Straight to Triton: prepared messages, one channel, one stream for all generations."""

    def __init__(self, channel: grpc.aio.Channel, stream: InferStream, models: Models) -> None:
        self._infer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer
        self._stream = stream
        self._decoder = models.decoder
        self._numbers = itertools.count()
        ids = np.array(models.encoder_ids, np.int32)
        inputs = {
            "input_ids": ids,
            "sequence_lengths": np.array([len(ids)], np.int32),
            "token_type_ids": np.zeros_like(ids),
        }
        self._embed_request = infer_request(models.encoder, "", inputs, ("embeddings",))
        self._prompt = models.decoder_ids

    async def embed(self) -> None:
        """One text."""
        answer = await self._infer(self._embed_request)
        np.frombuffer(answer.raw_output_contents[0], np.float32)

    async def generate(self, new_tokens: int) -> float:
        """One completion; the seconds until its first token."""
        begun = time.perf_counter()
        name = f"direct {next(self._numbers)}"
        options = {"ignore_eos": True, "use_prefix_cache": False}
        await self._stream.send(generate_request(self._decoder, name, self._prompt, new_tokens, **options))
        message = await self._stream.next_response(name)
        first_s = time.perf_counter() - begun
        while not message.infer_response.parameters["triton_final_response"].bool_param:
            message = await self._stream.next_response(name)
        self._stream.forget(name)
        return first_s


class ServiceCalls:
    """Through the services, one channel each."""

    def __init__(self, classification: grpc.aio.Channel, generation: grpc.aio.Channel, models: Models) -> None:
        self._embed: Any = classification_pb2_grpc.ClassificationServiceStub(classification).Embed
        generation_stub: Any = generation_pb2_grpc.GenerationServiceStub(generation)
        self._generate, self._stream = generation_stub.Generate, generation_stub.GenerateStream
        self._models = models
        self._embed_request = classification_pb2.EmbedRequest(model=models.encoder, texts=[TEXT])

    def _options(self, new_tokens: int) -> dict[str, Any]:
        return {
            "model": self._models.decoder,
            "text": TEXT,
            "sampling": generation_pb2.SamplingOptions(temperature=0),
            "stopping": generation_pb2.StoppingOptions(max_tokens=new_tokens, ignore_eos=True),
            "use_prefix_cache": False,
        }

    async def embed(self) -> None:
        """One text."""
        await self._embed(self._embed_request)

    async def generate(self) -> None:
        """One token."""
        await self._generate(generation_pb2.GenerateRequest(**self._options(1)))

    async def stream(self) -> float:
        """STREAM_TOKENS tokens; the seconds until the first text."""
        begun, first_s = time.perf_counter(), 0.0
        async for part in self._stream(generation_pb2.GenerateStreamRequest(**self._options(STREAM_TOKENS))):
            if not first_s and part.HasField("delta"):
                first_s = time.perf_counter() - begun
        return first_s


@dataclass(frozen=True)
class Models:
    """The models that are asked, and TEXT as their tokens."""

    decoder: str
    encoder: str
    decoder_ids: list[int]
    encoder_ids: list[int]


def all_loads(direct: DirectCalls, service: ServiceCalls, relay: DirectCalls) -> list[Load]:
    """In the order of the table; short enough that a turn of all takes about five seconds."""

    async def first_token() -> None:
        await direct.generate(1)

    async def stream() -> float:
        return await direct.generate(STREAM_TOKENS)

    embeds = ("embed", "classification", direct.embed, service.embed)
    generates = ("generate", "generation", first_token, service.generate)
    streams = ("stream", "generation", stream, service.stream)
    return [
        Load(*embeds, 1, 80, relay.embed),
        Load(*embeds, 8, 160),
        Load(*embeds, 64, 320),
        Load(*generates, 1, 40),
        Load(*generates, 8, 80),
        Load(*streams, 1, 3),
        Load(*streams, 8, 8),
        Load(*streams, GOAL_STREAMS, GOAL_STREAMS),
    ]


async def run_turn(call: Call, load: Load, samples: Samples, supervisor_pid: int) -> None:
    """`load.calls` calls in closed loops."""
    numbers = iter(range(load.calls))

    async def client() -> None:
        for _ in numbers:
            begun = time.perf_counter()
            first_part_s = await call()
            samples.seconds.append(time.perf_counter() - begun)
            if first_part_s is not None:
                samples.first_part_seconds.append(first_part_s)

    before = cpu_time(supervisor_pid, load.asked)
    await asyncio.gather(*(client() for _ in range(load.clients)))
    used = cpu_time(supervisor_pid, load.asked) - before
    earlier = asdict(samples.cpu)
    samples.cpu = CpuTime(**{name: earlier[name] + seconds for name, seconds in asdict(used).items()})


async def measure(stack: Stack, models: Models, turns: int, names: list[str]) -> list[Result]:
    """All loads, `turns` times after one that is not counted; which way comes first changes."""
    pid = stack.process.pid
    async with contextlib.AsyncExitStack() as resources:
        triton = f"127.0.0.1:{stack.grpc_ports['triton']}"
        relay = f"127.0.0.1:{resources.enter_context(running_relay(triton))}"
        addresses = (triton, stack.address("classification"), stack.address("generation"), relay)
        to_triton, to_classification, to_generation, to_relay = [
            await resources.enter_async_context(grpc.aio.insecure_channel(address)) for address in addresses
        ]
        stream = await resources.enter_async_context(InferStream(triton))
        loads = all_loads(
            DirectCalls(to_triton, stream, models),
            ServiceCalls(to_classification, to_generation, models),
            DirectCalls(to_relay, stream, models),
        )
        results = []
        for load in (load for load in loads if load.name in names):
            ways = [(load.direct, Samples()), (load.through, Samples())]
            if load.relayed is not None:
                ways.append((load.relayed, Samples()))
            for call, _ in ways:
                await run_turn(call, load, Samples(), pid)
            for turn in range(turns):
                for call, samples in ways if turn % 2 else reversed(ways):
                    await run_turn(call, load, samples, pid)
            results.append(Result(load.name, load.clients, *(samples.figures() for _, samples in ways)))
        return results


def summary(results: list[Result]) -> str:
    """A table and a line for each goal."""
    heads = ("call", "clients", "direct p50, ms", "p99", "added p50, ms", "p99", "to the first part, added p50, ms",
             "p99", "CPU a call, ms: service", "Triton", "engine", "direct: Triton", "service's share")  # fmt: skip
    rows = []
    for one in results:
        streams = "first_part_p50_ms" in one.service
        rows.append(
            (
                one.load,
                f"{one.clients}",
                f"{one.direct['p50_ms']:.2f}",
                f"{one.direct['p99_ms']:.2f}",
                f"{one.added('p50_ms'):+.2f}",
                f"{one.added('p99_ms'):+.2f}",
                f"{one.added('first_part_p50_ms'):+.2f}" if streams else "",
                f"{one.added('first_part_p99_ms'):+.2f}" if streams else "",
                *(f"{one.service[name + '_cpu_ms']:.3f}" for name in ("services", "triton", "engine")),
                f"{one.direct['triton_cpu_ms']:.3f}",
                f"{one.service_share:.1%}",
            )
        )
    lines = [table(heads, rows)]
    for one in results:
        if one.clients == 1:
            # Of a stream only the beginning is waited for; the rest comes at the engine's pace.
            name = "first_part_" if one.load == "stream" else ""
            lines.append(
                f"{one.load}, 1 client: {one.added(name + 'p50_ms'):+.2f} ms at p50 (goal {P50_GOAL_MS:g}), "
                f"{one.added(name + 'p99_ms'):+.2f} ms at p99 (goal {P99_GOAL_MS:g})"
            )
        if one.relay is not None:
            added = [one.relay[name] - one.direct[name] for name in ("p50_ms", "p99_ms")]
            lines.append(
                f"{one.load}, 1 client, a relay that does nothing: {added[0]:+.2f} ms at p50, {added[1]:+.2f} at p99"
            )
        if one.clients == GOAL_STREAMS:
            share = f"{one.service_share:.1%} of the server's CPU is the service's"
            lines.append(f"{one.clients} streams: {share} (goal {CPU_GOAL:.0%})")
    return "\n".join(lines)


@contextlib.contextmanager
def running_relay(triton_address: str) -> Iterator[int]:
    """The port of a relay that does nothing."""
    command = [sys.executable, "-m", "benchmarks.empty_relay", triton_address]
    with subprocess.Popen(command, cwd=REPOSITORY_ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield int(process.stdout.readline())
        finally:
            process.terminate()


@contextlib.contextmanager
def repository_with(decoder: Path, encoder: Path) -> Iterator[Path]:
    """A repository of the two models."""
    with tempfile.TemporaryDirectory(dir=REPOSITORY_ROOT / "build", prefix="test-models-") as folder:
        for entry in (decoder, encoder):
            link_model(entry, Path(folder), entry.name, {})
        yield Path(folder)


def _ids(entry: Path) -> list[int]:
    tokenizer = Tokenizer.from_file(str(entry / "tokenizer.json"))
    tokenizer.no_padding()
    ids: list[int] = tokenizer.encode(TEXT).ids
    return ids


def main() -> None:
    """Measures, prints the table, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tier_cost", description=__doc__)
    parser.add_argument("--decoder", default="chat")
    parser.add_argument("--encoder", default="embed", help="embed, or what build/bench-models has (%(default)s)")
    parser.add_argument("--turns", type=int, default=6, help="after one that is not counted (%(default)s)")
    parser.add_argument("--loads", default="embed,generate,stream", help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/tier-cost.json"))
    arguments = parser.parse_args()
    bench_model = BENCH_MODELS / arguments.encoder
    decoder = demo_model(arguments.decoder)
    encoder = bench_model if bench_model.exists() else demo_model(arguments.encoder)
    models = Models(decoder.name, encoder.name, _ids(decoder), _ids(encoder))
    with (
        repository_with(decoder, encoder) as repository,
        tempfile.TemporaryDirectory() as folder,
        running_stack(repository, Path(folder)) as stack,
    ):
        results = asyncio.run(measure(stack, models, arguments.turns, arguments.loads.split(",")))
    print(f"{machine()}\n{summary(results)}")
    figures = {"decoder": models.decoder, "encoder": models.encoder, "results": [asdict(one) for one in results]}
    write_report(arguments.output, figures)


if __name__ == "__main__":
    main()
