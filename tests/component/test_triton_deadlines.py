"""Work that nobody waits for any more ends inside Triton, whatever becomes of whoever asked for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from tests.component.conftest import SLOW_DECODER
from tests.support.engine_metrics import EngineMetrics
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import InferStream, generate_request, infer_request
from tests.synthetic.make_decoder import make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

pytestmark = pytest.mark.component

# Of the encoder: a run of each text, of which there are so many that a request of all of them takes a while.
TEXT_TOKENS = 256
MANY_TEXTS = 4_000


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """`one_place` serves one request at a time; `one_text` runs one text at a time."""
    folder: Path = tmp_path_factory.mktemp("engines")
    make_decoder(folder, "one_place", SLOW_DECODER, {"intra_op_threads": "1", "max_active_requests": "1"})
    make_encoder(folder, "one_text", EncoderSpec(task="classify"), {"intra_op_threads": "1", "max_batch_tokens": "256"})
    with run_triton(folder) as server:
        yield server


def _metrics(server: TritonServer, model: str) -> EngineMetrics:
    return EngineMetrics.parse(server.metrics(), model)


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what


def _texts(request_id: str, count: int, **parameters: Any) -> Any:
    inputs = {
        "input_ids": np.ones(count * TEXT_TOKENS, np.int32),
        "sequence_lengths": np.full(count, TEXT_TOKENS, np.int32),
    }
    return infer_request("one_text", request_id, inputs, ["logits"], **parameters)


async def test_a_generation_ends_at_its_deadline_whether_it_runs_or_waits(engines: TritonServer) -> None:
    async with InferStream(engines.grpc_address) as stream:
        await stream.generate("one_place", "first", [1], 2)  # whose run takes longer than any other
        # Without guesses, so that a thousand tokens surely take longer than that.
        options = {"ignore_eos": True, "max_draft_tokens": 0, "timeout_us": 250_000}
        await stream.send(generate_request("one_place", "runs", [1, 2], 1000, **options))
        await stream.next_response("runs")
        # It would be the next to run; its deadline passes first.
        waited = await stream.generate("one_place", "waits", [3, 4], 2, timeout_us=50_000)
        ran = await stream.rest("runs")
        patient = await stream.generate("one_place", "patient", [5, 6], 2, timeout_us=60_000_000)
    for late in (waited, ran):
        assert (late.finish_reason, late.final["error_code"]) == ("error", "DEADLINE_EXCEEDED")
    assert waited.tokens == []
    assert 0 < len(ran.tokens) < 1000
    assert patient.finish_reason == "length"
    metrics = _metrics(engines, "one_place")
    assert metrics["naiad_request_failure_total", "reason=DEADLINE_EXCEEDED"] == 2
    assert metrics.unfinished == metrics.blocks("used") == 0


async def test_a_time_that_makes_no_sense_is_refused(engines: TritonServer) -> None:
    async with InferStream(engines.grpc_address) as stream:
        refused = await stream.generate("one_place", "r", [1], 2, timeout_us=0)
    assert refused.final["error_code"] == "INVALID_ARGUMENT"
    assert str(refused.final["error_message"]).startswith("timeout_us is 0")


async def test_texts_that_are_late_or_whose_caller_has_left_are_not_run(engines: TritonServer) -> None:
    async with grpc.aio.insecure_channel(engines.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        many = asyncio.ensure_future(stub.ModelInfer(_texts("many", MANY_TEXTS, timeout_us=60_000_000)))
        await asyncio.to_thread(
            _wait_until, lambda: _metrics(engines, "one_text").total("naiad_step_tokens_count") > 0, "runs of texts"
        )
        late = asyncio.ensure_future(stub.ModelInfer(_texts("late", 1, timeout_us=1)))
        left = asyncio.ensure_future(stub.ModelInfer(_texts("left", 1)))
        kept = asyncio.ensure_future(stub.ModelInfer(_texts("kept", 1)))
        await asyncio.to_thread(
            _wait_until, lambda: _metrics(engines, "one_text").total("naiad_num_requests_waiting") >= 2, "a queue"
        )
        assert not (await stub.ModelInfer(_texts("left", 1, stop=True))).outputs
        for call, code in ((late, "DEADLINE_EXCEEDED"), (left, "CANCELLED")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            assert str(caught.value.details()).startswith(f"[{code}]")
            assert not many.done(), "they need not wait for their turn"
        assert (await kept).outputs[0].shape[0] == 1
        assert (await many).outputs[0].shape[0] == MANY_TEXTS
    assert _metrics(engines, "one_text").total("naiad_prompt_tokens_total") == (MANY_TEXTS + 1) * TEXT_TOKENS
    _wait_until(lambda: _metrics(engines, "one_text").unfinished == 0, "the load is told after the answers")


async def test_a_long_request_stops_between_two_runs_when_its_time_is_over(engines: TritonServer) -> None:
    before = _metrics(engines, "one_text").total("naiad_prompt_tokens_total")
    async with grpc.aio.insecure_channel(engines.grpc_address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(_texts("many", MANY_TEXTS, timeout_us=50_000))
        assert str(caught.value.details()).startswith("[DEADLINE_EXCEEDED]")
    assert _metrics(engines, "one_text").total("naiad_prompt_tokens_total") - before < MANY_TEXTS * TEXT_TOKENS
