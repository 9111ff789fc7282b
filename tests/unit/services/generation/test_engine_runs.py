"""The engine's part of a generation in log and trace."""

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import common_pb2, generation_pb2_grpc
from naiad.v1 import generation_pb2 as pb

from services.common.logs import JsonFormatter
from services.common.settings import GenerationSettings
from services.generation.app import build
from tests.support.fake_triton import FakeTriton, Plan
from tests.support.otlp_receiver import OtlpReceiver, otlp_receiver
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import CHAT_TEMPLATE, byte_level_tokenizer, write_model

SECRET = "hello"


@pytest.fixture
async def traced(tmp_path: Path) -> AsyncIterator[tuple[generation_pb2_grpc.GenerationServiceStub, OtlpReceiver]]:
    write_model(tmp_path, "chat", "generate", byte_level_tokenizer(), chat_template=CHAT_TEMPLATE)
    fake = FakeTriton()
    fake.plan = lambda _: Plan(tokens=[40, 41, 42])
    await fake.start()
    with otlp_receiver() as (receiver, endpoint):
        settings = GenerationSettings(
            model_repository=tmp_path,
            triton_address=fake.address,
            triton_probe_interval_ms=20,
            canary_interval_ms=0,  # tests count what the fake engine is asked
            otlp_endpoint=endpoint,
        )
        async with running(build(settings), settings) as (_, channel):
            await wait_for_health(channel, "", health_pb2.HealthCheckResponse.SERVING)
            yield generation_pb2_grpc.GenerationServiceStub(channel), receiver
    await fake.die()


async def test_the_engines_work_is_a_span_below_the_calls(
    traced: tuple[generation_pb2_grpc.GenerationServiceStub, OtlpReceiver], caplog: pytest.LogCaptureFixture
) -> None:
    stub, receiver = traced
    chat = common_pb2.Chat(messages=[common_pb2.ChatMessage(role="user", content=SECRET)])
    stopping = pb.StoppingOptions(max_tokens=3, ignore_eos=True)
    with caplog.at_level(logging.INFO, "naiad.rpc"):
        answer = await stub.Generate(pb.GenerateRequest(model="chat", chat=chat, stopping=stopping))
    (record,) = [record for record in caplog.records if record.name == "naiad.rpc"]
    line = json.loads(JsonFormatter().format(record))
    engine, call = receiver.take(2)
    assert call.name == "naiad.v1.GenerationService/Generate"
    assert engine.name == "chat chat"
    assert (engine.trace_id, engine.parent_span_id) == (call.trace_id, call.span_id)
    assert line["trace_id"] == call.trace_id
    timings = answer.timings
    for phase in ("queue", "prefill", "decode"):
        duration_us = getattr(timings, phase).ToMicroseconds()
        assert engine.attributes[f"naiad.{phase}_us"] == duration_us
        assert line[f"{phase}_ms"] == round(duration_us / 1000, 3)
    assert [name for name, _ in engine.events] == ["queue", "prefill", "decode"]
    assert engine.events[1][1] - engine.events[0][1] == engine.attributes["naiad.queue_us"] * 1000
    assert engine.attributes["gen_ai.operation.name"] == "chat"
    assert engine.attributes["gen_ai.request.model"] == "chat"
    assert engine.attributes["gen_ai.request.max_tokens"] == 3
    assert engine.attributes["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens == line["prompt_tokens"]
    assert engine.attributes["gen_ai.usage.output_tokens"] == 3 == line["completion_tokens"]
    assert engine.attributes["gen_ai.response.finish_reasons"] == [line["finish_reason"]]
    assert line["time_to_first_token_ms"] > 0
    assert line["engine_request_id"]
    assert call.start_ns <= engine.start_ns <= engine.end_ns <= call.end_ns
    assert SECRET.encode() not in receiver.bytes
