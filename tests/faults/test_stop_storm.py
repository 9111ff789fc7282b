"""Thousands of requests stopped at random moments while blocks run out: no crash, no leak, every one accounted for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.support.engine_metrics import EngineMetrics
from tests.support.models import exact_chat, kv_block_bytes, linked_models
from tests.support.traffic import TrafficShape, random_jobs, run_jobs
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1200)]

TIME_LIMIT_S = 600
IN_FLIGHT = 64
# What an allocator may keep of a storm that is no larger than the one before it.
MEMORY_GROWTH_LIMIT_BYTES = 32 << 20

SPEC = DecoderSpec(vocabulary_size=8, context_length_tokens=256, num_layers=24, eos_id=0)
SYNTHETIC_TRAFFIC = TrafficShape(
    vocabulary_size=8, stopped_share=0.9, max_new_tokens=100, max_responses_before_stop=6, max_stop_delay_s=0.02
)
CHAT_TRAFFIC = TrafficShape(
    vocabulary_size=30_000, first_token=300, stopped_share=0.9, max_new_tokens=32, max_stop_delay_s=0.5
)


@contextmanager
def _synthetic_server(folder: Path) -> Iterator[TritonServer]:
    block_bytes = kv_block_bytes(make_decoder(folder, "decoder", SPEC))
    parameters = {"intra_op_threads": "1", "kv_cache_bytes": str(48 * block_bytes), "max_active_requests": "32"}
    make_decoder(folder, "decoder", SPEC, parameters)
    with run_triton(folder) as server:
        yield server


@contextmanager
def _chat_server() -> Iterator[TritonServer]:
    tight = {"kv_cache_bytes": str(40 * kv_block_bytes(exact_chat()))}
    with linked_models({"decoder": tight}) as repository, run_triton(repository) as server:
        yield server


async def _storm(server: TritonServer, shape: TrafficShape, requests: int, batches: int) -> None:
    """Equal batches of requests; the memory after the first is the measure of those that follow."""
    process = psutil.Process(server.pid)
    begun = time.monotonic()
    sizes, outcomes, sequences = [], Counter[str](), 0
    for batch in range(batches):
        jobs = random_jobs(requests // batches, shape, seed=batch)
        async with InferStream(server.grpc_address) as stream:
            results = await run_jobs(stream, "decoder", jobs, IN_FLIGHT, TIME_LIMIT_S)
        outcomes.update(str(one.finish_reason) for generations in results for one in generations)
        sequences += sum(job.sequences for job in jobs)
        sizes.append(process.memory_info().rss)
    seconds = time.monotonic() - begun

    metrics = EngineMetrics.parse(server.metrics(), "decoder")
    preemptions = metrics.total("naiad_num_preemptions_total")
    print(f"{requests} requests, {sequences} sequences in {seconds:.0f} s, {preemptions:.0f} preemptions, {outcomes}")
    print(f"resident MiB after each batch: {[size >> 20 for size in sizes]}")
    assert seconds < TIME_LIMIT_S
    assert {"length", "cancelled"} <= set(outcomes) <= {"stop", "length", "cancelled"}
    assert outcomes.total() == sequences
    assert preemptions > 0
    assert metrics.unfinished == 0
    assert metrics.blocks("used") == 0
    assert metrics.total("naiad_request_failure_total") == 0
    by_reason = {reason: metrics["naiad_request_success_total", f"finished_reason={reason}"] for reason in outcomes}
    assert by_reason == outcomes
    assert sizes[-1] - sizes[0] < MEMORY_GROWTH_LIMIT_BYTES


async def test_10_000_requests_stopped_at_random_moments_leave_nothing_behind(tmp_path: Path) -> None:
    with _synthetic_server(tmp_path) as server:
        await _storm(server, SYNTHETIC_TRAFFIC, requests=10_000, batches=5)
        async with InferStream(server.grpc_address) as stream:
            after = await stream.generate("decoder", "after", [1, 2, 3], 20, ignore_eos=True)
        assert after.tokens == expected_tokens(SPEC, [1, 2, 3], 20, ignore_eos=True)
        assert server.stop() == 0


async def test_a_real_model_survives_the_same() -> None:
    with _chat_server() as server:
        await _storm(server, CHAT_TRAFFIC, requests=450, batches=3)
        async with InferStream(server.grpc_address) as stream:
            after = await stream.generate("decoder", "after", [300, 301], 5, ignore_eos=True)
        assert after.finish_reason == "length"
        assert server.stop() == 0
