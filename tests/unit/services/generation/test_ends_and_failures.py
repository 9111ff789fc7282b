import asyncio

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan
from tests.support.generation_stack import Stack, events_of, failure_of, rest_of, says, stopped
from tests.support.running_service import wait_for_health


async def test_a_client_that_leaves_ends_the_work(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    call = stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=3)))
    while not (await call.read()).HasField("delta"):
        pass
    call.cancel()
    await stopped(stack, 1)


async def test_a_client_that_leaves_a_unary_call_ends_the_work(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    call = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
    async with asyncio.timeout(10):
        await stack.fake.request_seen.wait()
    call.cancel()
    await stopped(stack, 1)


async def test_a_passed_deadline_ends_the_work(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    unary = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"), timeout=0.3)
    stream = stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x"), timeout=0.3)
    for ended in (unary, rest_of(stream)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ended
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(10):
        while set(stack.fake.stopped_ids) != {seen.id for seen in stack.fake.requests}:
            stack.fake.stop_seen.clear()
            await stack.fake.stop_seen.wait()


async def test_a_dead_triton_ends_streams_at_once_and_health_follows(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    calls = [stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x")) for _ in range(3)]
    for call in calls:
        while not (await call.read()).HasField("delta"):
            pass
    await stack.fake.die()
    async with asyncio.timeout(1):
        for call in calls:
            failure = await failure_of(rest_of(call))
            assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")
        await wait_for_health(stack.channel, "", health_pb2.HealthCheckResponse.NOT_SERVING)
    await stack.fake.start()
    async with asyncio.timeout(10):
        await wait_for_health(stack.channel, "", health_pb2.HealthCheckResponse.SERVING)
    says(stack, "hello")
    response = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
    assert response.completions[0].text == "hello"


async def test_too_much_work_is_refused_with_a_time_to_retry(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    stopping = pb.StoppingOptions(max_tokens=150)
    request = pb.GenerateStreamRequest(model="chat", text="x", stopping=stopping, sampling=pb.SamplingOptions(n=6))
    first = stack.stub.GenerateStream(request)
    assert (await first.read()).HasField("started")
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", stopping=stopping)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
    assert 500 <= int(failure.trailers["grpc-retry-pushback-ms"]) <= 1_500
    first.cancel()
    await stopped(stack, 1)
    says(stack, "hello")
    assert (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions[0].text == "hello"


async def test_work_that_does_not_fit_is_refused_before_its_text_is_tokenized(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    says(stack, "hello", wait_for_stop=True)
    stopping = pb.StoppingOptions(max_tokens=150)
    first = stack.stub.GenerateStream(
        pb.GenerateStreamRequest(model="chat", text="x", stopping=stopping, sampling=pb.SamplingOptions(n=6))
    )
    assert (await first.read()).HasField("started")
    monkeypatch.setattr("services.common.tokenizer.TextTokenizer.encode_ids", lambda *_: 1 / 0)
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", stopping=stopping)))
    assert failure.reason == "OVERLOADED"


async def test_the_engine_is_told_the_time_that_is_left(stack: Stack) -> None:
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"), timeout=30)
    await events_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x")))
    stack.fake.plan = lambda _: Plan(context_log_probs=[-1.0])
    await stack.stub.Score(pb.ScoreRequest(model="chat", token_ids=common_pb2.TokenIds(ids=[5, 6])), timeout=20)
    generate, stream, score = stack.fake.requests
    assert 20_000_000 < generate.parameters["timeout_us"] < 31_000_000
    assert "timeout_us" not in stream.parameters
    assert 10_000_000 < score.parameters["timeout_us"] < 21_000_000


async def test_what_the_engine_gave_up_for_its_deadline_is_deadline_exceeded(stack: Stack) -> None:
    stack.fake.plan = lambda _: Plan(error=("DEADLINE_EXCEEDED", "the deadline has passed"))
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"), timeout=30))
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_what_cannot_be_done_in_time_never_reaches_the_engine(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.common.deadline.RecentTimes.median_s", lambda *_: 1_000.0)
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"), timeout=100))
    assert (failure.code, failure.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert not stack.fake.requests
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))


async def test_an_engine_that_is_full_is_overload_not_unavailable(stack: Stack) -> None:
    stack.fake.plan = lambda _: Plan(stream_error="[RESOURCE_EXHAUSTED] the inbox is full")
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")
