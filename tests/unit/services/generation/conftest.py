"""The generation service in this process, on a scripted Triton."""

from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2
from naiad.v1 import generation_pb2_grpc

from services.common.settings import GenerationSettings
from services.common.tokenizer import TextTokenizer
from services.generation.app import build
from tests.support.fake_triton import FakeTriton
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import CHAT_TEMPLATE, bert_tokenizer, byte_level_tokenizer, write_model

CONTEXT_TOKENS = 200


@dataclass
class Stack:
    """Everything that a test of the service talks to."""

    fake: FakeTriton
    stub: generation_pb2_grpc.GenerationServiceStub
    channel: grpc.aio.Channel
    tokenizer: TextTokenizer
    metrics_port: int


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    write_model(tmp_path, "chat", "generate", byte_level_tokenizer(), CHAT_TEMPLATE, CONTEXT_TOKENS)
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    fake = FakeTriton()
    await fake.start()
    settings = GenerationSettings(
        model_repository=tmp_path,
        triton_address=fake.address,
        triton_probe_interval_ms=20,
        max_inflight_tokens=1000,
    )
    async with running(build(settings), settings) as (server, channel):
        await wait_for_health(channel, "", health_pb2.HealthCheckResponse.SERVING)
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        tokenizer = TextTokenizer(byte_level_tokenizer())
        yield Stack(fake, stub, channel, tokenizer, server.endpoints.metrics_port)
    await fake.die()


@dataclass
class Failure:
    """A failed call as the client sees it."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    trailers: dict[str, str | bytes]


async def failure_of(call: Awaitable[object]) -> Failure:
    """How the call fails; awaiting a stream reads its first message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    fields = [v.field for d in status.details if d.Unpack(bad_request) for v in bad_request.field_violations]
    return Failure(caught.value.code(), info.reason, fields, trailers)
