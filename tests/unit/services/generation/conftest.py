"""The generation service in this process, on a scripted Triton."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import generation_pb2_grpc

from services.common.settings import GenerationSettings
from services.common.tokenizer import TextTokenizer
from services.generation.app import build
from tests.support.fake_triton import FakeTriton
from tests.support.generation_stack import CONTEXT_TOKENS, Stack
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import CHAT_TEMPLATE, bert_tokenizer, byte_level_tokenizer, write_model


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    write_model(
        tmp_path,
        "chat",
        "generate",
        byte_level_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        context_length_tokens=CONTEXT_TOKENS,
    )
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    write_model(tmp_path, "newcomer", "generate", byte_level_tokenizer(), context_length_tokens=CONTEXT_TOKENS)
    fake = FakeTriton()
    fake.unloaded.add("newcomer")
    await fake.start()
    settings = GenerationSettings(
        model_repository=tmp_path,
        triton_address=fake.address,
        triton_probe_interval_ms=20,
        canary_interval_ms=0,  # tests count what the fake engine is asked
        max_inflight_tokens=1000,
    )
    async with running(build(settings), settings) as (server, channel):
        await wait_for_health(channel, "", health_pb2.HealthCheckResponse.SERVING)
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        tokenizer = TextTokenizer(byte_level_tokenizer())
        yield Stack(fake, stub, channel, tokenizer, server.endpoints.metrics_port)
    await fake.die()
