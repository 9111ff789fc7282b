"""A client that does not read, before a fake engine that is faster than any real one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

from services.common.settings import GenerationSettings
from services.common.tokenizer import TextTokenizer
from services.generation.app import build
from tests.support.fake_triton import FakeTriton, Plan
from tests.support.generation_stack import Stack
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import byte_level_tokenizer, write_model

ANSWER_TOKENS = 5_000  # far more bytes than a flow-control window holds


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    write_model(tmp_path, "chat", "generate", byte_level_tokenizer(), context_length_tokens=2 * ANSWER_TOKENS)
    fake = FakeTriton()
    await fake.start()
    settings = GenerationSettings(
        model_repository=tmp_path,
        triton_address=fake.address,
        triton_probe_interval_ms=20,
        write_stall_timeout_ms=200,
        max_buffered_responses=100_000,  # so that it is the stall that ends the stream
        max_buffered_bytes=1 << 30,
    )
    async with running(build(settings), settings) as (server, watching):
        await wait_for_health(watching, "", health_pb2.HealthCheckResponse.SERVING)
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0))  # a window that does not grow
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.endpoints.port}", options=options) as channel:
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            yield Stack(fake, stub, channel, TextTokenizer(byte_level_tokenizer()), server.endpoints.metrics_port)
    await fake.die()


async def test_a_stream_that_nobody_reads_ends_and_its_work_too(stack: Stack) -> None:
    stack.fake.plan = lambda _: Plan(tokens=[5] * ANSWER_TOKENS, wait_for_stop=True)
    request = pb.GenerateStreamRequest(
        model="chat",
        text="x",
        stopping=pb.StoppingOptions(max_tokens=ANSWER_TOKENS),
        response=pb.ResponseOptions(logprobs=True, top_logprobs=20),
    )
    call = stack.stub.GenerateStream(request)
    assert (await call.read()).HasField("started")
    async with asyncio.timeout(60):
        while not stack.fake.stopped_ids:  # while the client is still there, and has not read
            stack.fake.stop_seen.clear()
            await stack.fake.stop_seen.wait()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            while await call.read() is not grpc.aio.EOF:
                pass
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert caught.value.details() == "the client reads too slowly"
