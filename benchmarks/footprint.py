"""What a served decoder costs in memory, and how long it takes to load.

`python -m benchmarks.footprint [ENTRY ...] [--rounds 3] [--output FILE.json]`; without ENTRY: fp32 and as served.
Goals: a load within LOAD_GOAL_S, and resident memory of at most MEMORY_GOAL times the weights and the KV pool together.
Everything is that of one real tritonserver with one model; the files are in the page cache, as after any first start.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from benchmarks.report import machine, table, write_report
from tests.support.models import demo_model, exact_chat, kv_block_bytes, linked_models
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, generate_request

LOAD_GOAL_S = 3.0
MEMORY_GOAL = 1.3
# What the backend takes when the entry says nothing (docs/configuration.md).
KV_CACHE_BYTES = 512 << 20
PROMPT_TOKENS = 2000
STREAMS = 32
NEW_TOKENS = 16
BLOCK_TOKENS = 16
_BY_HAND = ("--model-control-mode=explicit",)


@dataclass(frozen=True)
class Resident:
    """Resident memory of a process by kind. Mapped weights are a part of the files."""

    anonymous_bytes: int
    file_bytes: int
    shared_bytes: int
    mapped_weights_bytes: int

    @property
    def total_bytes(self) -> int:
        """All kinds."""
        return self.anonymous_bytes + self.file_bytes + self.shared_bytes


@dataclass(frozen=True)
class Footprint:
    """One model. start_s: from the start of the process; load_s: of the model alone, in a server that is up."""

    model: str
    weights_bytes: int
    pool_bytes: int
    start_s: list[float]
    load_s: list[float]
    before: Resident
    loaded: Resident
    used: Resident

    @property
    def needed_bytes(self) -> int:
        """What no engine could do without."""
        return self.weights_bytes + self.pool_bytes

    @property
    def ratio(self) -> float:
        """All resident memory after traffic, the server's own included, to what is needed."""
        return self.used.total_bytes / self.needed_bytes

    @property
    def own_ratio(self) -> float:
        """The same without what the server takes with no model."""
        return (self.used.total_bytes - self.before.total_bytes) / self.needed_bytes


def resident_memory(status: str, maps: str, weights_file: str) -> Resident:
    """From the texts of /proc/PID/status and /proc/PID/smaps."""
    sizes = {
        name: 1024 * int(value.split()[0])
        for name, _, value in (line.partition(":") for line in status.splitlines())
        if name.startswith("Rss")
    }
    mapped, inside = 0, False
    for line in maps.splitlines():
        words = line.split()
        if not words[0].endswith(":"):  # The head of a mapping: addresses, rights, offset, device, inode, path.
            inside = len(words) > 5 and words[5].endswith(weights_file)
        elif inside and words[0] == "Rss:":
            mapped += 1024 * int(words[1])
    return Resident(sizes["RssAnon"], sizes["RssFile"], sizes["RssShmem"], mapped)


def _resident(server: TritonServer, model: str) -> Resident:
    process = Path("/proc") / str(server.pid)
    return resident_memory(
        (process / "status").read_text(), (process / "smaps").read_text(), f"{model}/1/model.onnx.data"
    )


def _time_start(repository: Path) -> float:
    begin = time.perf_counter()
    with run_triton(repository):
        return time.perf_counter() - begin


def measure(entry: Path, rounds: int) -> Footprint:
    """Starts servers, the last of which gets the traffic."""
    model = str(json.loads((entry / "naiad.json").read_text())["precision"])
    weights_bytes = (entry / "1" / "model.onnx.data").stat().st_size
    pool_bytes = KV_CACHE_BYTES // kv_block_bytes(entry) * kv_block_bytes(entry)
    with linked_models({model: {"kv_cache_bytes": str(KV_CACHE_BYTES)}}, entry) as repository:
        starts = [_time_start(repository) for _ in range(rounds + 1)][1:]  # The first one warms the page cache.
        with run_triton(repository, arguments=_BY_HAND) as server:
            before = _resident(server, model)
            loads = _time_loads(server, model, rounds + 1)[1:]
        # In a server of its own: what earlier loads left behind would count as this one's.
        with run_triton(repository) as server:
            loaded = _resident(server, model)
            asyncio.run(_fill_pool(server.grpc_address, model, pool_bytes // kv_block_bytes(entry)))
            return Footprint(model, weights_bytes, pool_bytes, starts, loads, before, loaded, _resident(server, model))


def _time_loads(server: TritonServer, model: str, count: int) -> list[float]:
    times = []
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        for _ in range(count):
            begin = time.perf_counter()
            stub.RepositoryModelLoad(service_pb2.RepositoryModelLoadRequest(model_name=model), metadata=server.key)
            times.append(time.perf_counter() - begin)
            stub.RepositoryModelUnload(service_pb2.RepositoryModelUnloadRequest(model_name=model), metadata=server.key)
            while _state(server, stub, model) != "UNAVAILABLE":  # The answer comes before the model is gone.
                time.sleep(0.01)
    return times


def _state(server: TritonServer, stub: service_pb2_grpc.GRPCInferenceServiceStub, model: str) -> str:
    index = stub.RepositoryIndex(service_pb2.RepositoryIndexRequest(), metadata=server.key).models
    return next(str(one.state) for one in index if one.name == model)


async def _fill_pool(address: str, model: str, blocks: int) -> None:
    """A long prompt, and then streams at once until every block has been written to."""
    chance = random.Random(1)

    def prompt(count: int) -> list[int]:
        return [chance.randrange(300, 30_000) for _ in range(count)]

    async with InferStream(address) as stream:
        await stream.send(generate_request(model, "long", prompt(PROMPT_TOKENS), 4, ignore_eos=True))
        await stream.rest("long", timeout_s=300)
        tokens = BLOCK_TOKENS * (blocks // STREAMS)
        names = [f"stream {number}" for number in range(STREAMS)]
        for name in names:
            await stream.send(generate_request(model, name, prompt(tokens - NEW_TOKENS), NEW_TOKENS, ignore_eos=True))
        for name in names:
            await stream.rest(name, timeout_s=600)


def summary(results: Sequence[Footprint]) -> str:
    """Two tables: times, memory."""
    times = (
        (one.model, f"{statistics.median(one.start_s):.2f} s", f"{statistics.median(one.load_s):.2f} s")
        for one in results
    )
    memory = (
        (
            one.model,
            state,
            *(
                f"{value / 1e6:.0f}"
                for value in (
                    memory.anonymous_bytes,
                    memory.file_bytes,
                    memory.mapped_weights_bytes,
                    memory.total_bytes,
                )
            ),
            f"{(memory.total_bytes - one.before.total_bytes) / one.needed_bytes:.2f}",
            f"{memory.total_bytes / one.needed_bytes:.2f}",
        )
        for one in results
        for state, memory in (("no model", one.before), ("loaded", one.loaded), ("pool full", one.used))
    )
    heads = (
        "model",
        "state",
        "anonymous, MB",
        "files, MB",
        "weights mapped, MB",
        "all, MB",
        "ratio less server",
        "ratio",
    )
    needs = ", ".join(
        f"{one.model} {one.weights_bytes / 1e6:.0f} + {one.pool_bytes / 1e6:.0f} MB of weights and pool"
        for one in results
    )
    return "\n\n".join(
        (table(("model", "process to ready", "load of the model"), times), table(heads, memory), f"Needed: {needs}.")
    )


def main() -> None:
    """Measures, prints tables, writes JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__)
    parser.add_argument("entries", nargs="*", type=Path, metavar="ENTRY", help="exported decoders, one after the other")
    parser.add_argument("--rounds", type=int, default=3, help="starts and loads, after one that is not counted")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/footprint.json"))
    arguments = parser.parse_args()
    entries = arguments.entries or [exact_chat(), demo_model("chat")]
    results = [measure(entry, arguments.rounds) for entry in entries]
    print(f"{machine()}\n\n{summary(results)}")
    print(f"goals: a load within {LOAD_GOAL_S:g} s, a ratio of at most {MEMORY_GOAL:g}")
    write_report(arguments.output, {"models": [{**asdict(one), "ratio": one.ratio} for one in results]})


if __name__ == "__main__":
    main()
