"""The engine's metrics on Triton's endpoint, and Triton's own counters."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from tests.support.engine_metrics import EngineMetrics
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, generate_request, infer_request, stop_message

pytestmark = pytest.mark.component

# docs/contracts.md, section 6.
DECODER_SERIES = [
    "naiad_num_requests_running",
    "naiad_num_requests_waiting",
    "naiad_kv_cache_usage_perc",
    "naiad_kv_cache_blocks",
    "naiad_prompt_tokens_total",
    "naiad_generation_tokens_total",
    "naiad_num_preemptions_total",
    "naiad_prefix_cache_hit_tokens_total",
    "naiad_spec_decode_num_draft_tokens_total",
    "naiad_spec_decode_num_accepted_tokens_total",
    "naiad_request_success_total",
    "naiad_request_failure_total",
    "naiad_time_to_first_token_seconds_count",
    "naiad_inter_token_latency_seconds_count",
    "naiad_request_queue_time_seconds_count",
    "naiad_request_prefill_time_seconds_count",
    "naiad_request_decode_time_seconds_count",
    "naiad_e2e_request_latency_seconds_count",
    "naiad_step_tokens_count",
    "naiad_step_sequences_count",
    "naiad_step_duration_seconds_count",
    "naiad_engine_seconds_total",
]
ENCODER_SERIES = [
    "naiad_num_requests_running",
    "naiad_num_requests_waiting",
    "naiad_prompt_tokens_total",
    "naiad_request_success_total",
    "naiad_request_failure_total",
    "naiad_request_queue_time_seconds_count",
    "naiad_e2e_request_latency_seconds_count",
    "naiad_step_tokens_count",
    "naiad_step_sequences_count",
    "naiad_step_duration_seconds_count",
]


@pytest.fixture(scope="module")
def quiet_triton(synthetic_repository: Path) -> Iterator[TritonServer]:
    """A server of its own, whose counters nobody else moves."""
    with run_triton(synthetic_repository) as server:
        yield server


async def _work(triton: TritonServer) -> None:
    """Three generations, one of them stopped, one refused; one embedding, one refused."""
    async with InferStream(triton.grpc_address) as stream:
        await stream.generate("slow", "length", [1, 2, 3], 5, ignore_eos=True)
        await stream.generate("slow", "refused", [1], 5, temperature="hot")
        await stream.send(generate_request("slow", "stopped", [1, 2], 1000, ignore_eos=True))
        await stream.next_response("stopped")
        await stream.send(stop_message("slow", "stopped"))
        await asyncio.gather(stream.rest("stopped"), stream.rest("stopped"))
    inputs = {"input_ids": np.ones(4, np.int32), "sequence_lengths": np.array([1, 3], np.int32)}
    async with grpc.aio.insecure_channel(triton.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(infer_request("embed", "e", inputs, ["embeddings"]))
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.ModelInfer(infer_request("embed", "e", inputs))


async def test_requests_move_the_metrics_of_the_contract_and_tritons_own(quiet_triton: TritonServer) -> None:
    before = EngineMetrics.parse(quiet_triton.metrics(), "slow")
    assert before.names() >= set(DECODER_SERIES)
    assert before["naiad_request_success_total", "finished_reason=length"] == 0
    await _work(quiet_triton)
    text = quiet_triton.metrics()

    slow = EngineMetrics.parse(text, "slow")
    assert slow["naiad_request_success_total", "finished_reason=length"] == 1
    assert slow["naiad_request_success_total", "finished_reason=cancelled"] == 1
    assert slow["naiad_request_failure_total", "reason=INVALID_ARGUMENT"] == 1
    assert slow["naiad_prompt_tokens_total", ""] == 5
    assert slow["naiad_generation_tokens_total", ""] >= 6
    assert slow["naiad_time_to_first_token_seconds_count", ""] == 2
    assert slow["naiad_inter_token_latency_seconds_count", ""] >= 4
    assert slow["naiad_step_tokens_sum", ""] >= 9
    in_model_s = slow["naiad_engine_seconds_total", "activity=model"]
    assert 0 < in_model_s <= slow["naiad_step_duration_seconds_sum", ""]
    assert slow["naiad_engine_seconds_total", "activity=rest"] > 0
    assert slow["naiad_kv_cache_blocks", "state=used"] == 0
    assert slow["nv_inference_request_success", ""] == 2
    assert sum(value for (name, _), value in slow.items() if name == "nv_inference_request_failure") == 1
    assert slow["nv_inference_exec_count", ""] >= 6
    assert slow["nv_inference_compute_infer_duration_us", ""] > 0

    embed = EngineMetrics.parse(text, "embed")
    assert embed.names() >= set(ENCODER_SERIES)
    assert embed["naiad_prompt_tokens_total", ""] == 4
    assert embed["naiad_step_sequences_sum", ""] == 2
    assert embed["naiad_request_failure_total", "reason=INVALID_ARGUMENT"] == 1
    assert embed["nv_inference_request_success", ""] == 1
    assert embed["nv_inference_exec_count", ""] == 1


def test_histograms_resolve_half_a_millisecond(quiet_triton: TritonServer) -> None:
    assert re.search(r'naiad_inter_token_latency_seconds_bucket\{[^}]*le="0.0005"\}', quiet_triton.metrics())


def test_promtool_accepts_the_engines_families(quiet_triton: TritonServer) -> None:
    promtool = shutil.which("promtool")
    assert promtool is not None, "promtool is missing; run: apt-get install prometheus"
    lines = quiet_triton.metrics().splitlines(keepends=True)
    ours = "".join(line for line in lines if re.match(r"(# (HELP|TYPE) )?naiad_", line))
    checked = subprocess.run([promtool, "check", "metrics"], input=ours, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
