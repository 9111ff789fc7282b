"""The generation service with two scripted Tritons, of which one is lost at a chosen token."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

from services.common.settings import GenerationSettings
from services.common.tokenizer import TextTokenizer
from services.generation.app import build
from tests.support.fake_triton import FakeTriton, Plan, SeenRequest, deltas_response
from tests.support.generation_stack import events_of, failure_of, rest_of, text_of
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import byte_level_tokenizer, write_model

TEXT = "Paris is the capital of 68 million people."


@dataclass
class Fleet:
    """A service and its two Tritons. `first` gets the first request."""

    first: FakeTriton
    second: FakeTriton
    stub: generation_pb2_grpc.GenerationServiceStub
    tokenizer: TextTokenizer

    def answer_from_first(self, ids: list[int], count: int) -> None:
        """`first` gives `count` of the tokens and then no more, `second` those that are missing."""
        self.first.plan = lambda seen: Plan(tokens=ids[seen.resumed_tokens : count], wait_for_stop=True)
        self.second.plan = lambda seen: Plan(tokens=ids[seen.resumed_tokens :])


@asynccontextmanager
async def fleet_of(folder: Path, **settings: Any) -> AsyncIterator[Fleet]:
    write_model(folder, "chat", "generate", byte_level_tokenizer(), context_length_tokens=200)
    fakes = (FakeTriton(), FakeTriton())
    for fake in fakes:
        await fake.start()
    fast: dict[str, Any] = {
        "triton_probe_interval_ms": 20,
        "triton_probe_timeout_ms": 200,
        "triton_affinity_tokens": 0,
        "canary_interval_ms": 0,
    }
    chosen = GenerationSettings(
        model_repository=folder,
        triton_address=",".join(fake.address for fake in fakes),
        **{**fast, **settings},
    )
    async with running(build(chosen), chosen) as (_, channel):
        await wait_for_health(channel, "", health_pb2.HealthCheckResponse.SERVING)
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        # Which of the two serves first is chance; the next request goes to the other one.
        while not all(fake.requests for fake in fakes):
            await stub.Generate(pb.GenerateRequest(model="chat", text="x"))
        await stub.Generate(pb.GenerateRequest(model="chat", text="x"))
        first, second = sorted(fakes, key=lambda fake: len(fake.requests))
        if len(first.requests) == len(second.requests):
            first, second = fakes
        for fake in fakes:
            fake.requests.clear()
        yield Fleet(first, second, stub, TextTokenizer(byte_level_tokenizer()))
    for fake in fakes:
        await fake.die()


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    async with fleet_of(tmp_path) as fleet:
        yield fleet


def request(**options: Any) -> pb.GenerateStreamRequest:
    return pb.GenerateStreamRequest(
        model="chat", text="Tell me", response=pb.ResponseOptions(return_token_ids=True), **options
    )


async def lose(fake: FakeTriton, how: str) -> None:
    if how == "killed":
        await fake.die()
    else:
        fake.frozen.set()


async def read_tokens(call: Any, count: int) -> list[pb.GenerateStreamResponse]:
    """Events up to the one with which `count` tokens have come."""
    events: list[pb.GenerateStreamResponse] = []
    while sum(len(event.delta.token_ids) for event in events) < count or not events:
        events.append(await call.read())
    return events


async def read_rest(call: Any) -> list[pb.GenerateStreamResponse]:
    """Events up to the end."""
    events = []
    while (event := await call.read()) is not grpc.aio.EOF:
        events.append(event)
    return events


@pytest.mark.parametrize("how", ["killed", "frozen"])
@pytest.mark.parametrize("count", [0, 1, 5, 11])
async def test_a_stream_goes_on_at_another_triton_from_the_tokens_that_have_come(
    fleet: Fleet, how: str, count: int
) -> None:
    ids = fleet.tokenizer.encode_ids(TEXT)
    assert len(ids) > 11
    fleet.answer_from_first(ids, count)
    call = fleet.stub.GenerateStream(request(sampling=pb.SamplingOptions(seed=7, frequency_penalty=0.5)))
    events = await read_tokens(call, count)
    while not fleet.first.requests:
        fleet.first.request_seen.clear()
        await fleet.first.request_seen.wait()
    await lose(fleet.first, how)
    async with asyncio.timeout(5):
        events += await read_rest(call)
    assert text_of(events) == TEXT
    assert [token for event in events for token in event.delta.token_ids] == ids
    (before,), (after,) = fleet.first.requests, fleet.second.requests
    assert after.inputs["input_ids"] == before.inputs["input_ids"] + ids[:count]
    resumed = {"resumed_tokens": count, "resumed_sequence": 0} if count else {}
    assert after.options == {**before.options, **resumed}
    assert events[-1].summary.usage.completion_tokens == len(ids)
    assert events[-1].summary.usage.prompt_tokens == len(before.inputs["input_ids"])


async def test_a_frozen_triton_is_told_to_stop_what_others_go_on_with(fleet: Fleet) -> None:
    fleet.answer_from_first(fleet.tokenizer.encode_ids(TEXT), 3)
    call = fleet.stub.GenerateStream(request())
    await read_tokens(call, 3)
    await lose(fleet.first, "frozen")
    async with asyncio.timeout(5):
        await read_rest(call)
        await fleet.first.stop_seen.wait()
    assert fleet.first.stopped_ids == [fleet.first.requests[0].id]


async def test_a_triton_that_is_too_busy_for_its_probes_keeps_what_it_works_on(fleet: Fleet) -> None:
    ids = [number % 100 for number in range(60)]
    fleet.answer_from_first(ids, 0)
    call = fleet.stub.GenerateStream(request(stopping=pb.StoppingOptions(ignore_eos=True)))
    while not fleet.first.requests:
        fleet.first.request_seen.clear()
        await fleet.first.request_seen.wait()
    await lose(fleet.first, "frozen")
    seen = fleet.first.requests[0]
    for number, token in enumerate(ids):  # three times as long as a probe may take
        fleet.first.send(deltas_response(seen.id, [(seen.parameters["delta_key"], 0, number, [token])]))
        await asyncio.sleep(0.01)
    events = await read_tokens(call, len(ids))
    assert [token for event in events for token in event.delta.token_ids] == ids
    assert fleet.second.requests == []
    call.cancel()


async def test_of_several_completions_each_unfinished_one_goes_on_by_itself(fleet: Fleet) -> None:
    texts = ["hello", "hello world", TEXT]
    ids = [fleet.tokenizer.encode_ids(text) for text in texts]

    def first(seen: SeenRequest) -> Plan:
        whole = ids[seen.sequence_index]
        return Plan(tokens=whole) if seen.sequence_index == 0 else Plan(tokens=whole[:2], wait_for_stop=True)

    def second(seen: SeenRequest) -> Plan:
        return Plan(tokens=ids[seen.parameters["resumed_sequence"]][seen.resumed_tokens :])

    fleet.first.plan, fleet.second.plan = first, second
    call = fleet.stub.GenerateStream(request(sampling=pb.SamplingOptions(n=3, seed=1)))
    events = await read_tokens(call, len(ids[0]) + 4)
    while not any(event.HasField("finished") for event in events):
        events.append(await call.read())
    await lose(fleet.first, "killed")
    async with asyncio.timeout(5):
        events += await read_rest(call)
    assert [text_of(events, index) for index in range(3)] == texts
    assert sorted(event.finished.index for event in events if event.HasField("finished")) == [0, 1, 2]
    assert events[-1].HasField("summary")
    assert sorted(seen.parameters["resumed_sequence"] for seen in fleet.second.requests) == [1, 2]
    assert {seen.num_sequences for seen in fleet.second.requests} == {1}


async def test_a_completion_that_its_stop_text_has_ended_does_not_go_on(fleet: Fleet) -> None:
    ids = fleet.tokenizer.encode_ids(TEXT)
    fleet.first.plan = lambda _: Plan(tokens=ids, wait_for_stop=True)
    stopping = pb.StoppingOptions(stop=["capital"])
    call = fleet.stub.GenerateStream(request(stopping=stopping))
    events: list[pb.GenerateStreamResponse] = []
    while not any(event.HasField("finished") for event in events):
        events.append(await call.read())
    await lose(fleet.first, "killed")
    async with asyncio.timeout(5):
        events += await read_rest(call)
    assert text_of(events) == "Paris is the "
    assert fleet.second.requests == []


async def test_scores_begin_again(fleet: Fleet) -> None:
    ids = fleet.tokenizer.encode_ids(TEXT)
    scores = [-float(number) for number in range(1, len(ids))]
    pending = asyncio.create_task(_score(fleet, scores))
    while not fleet.first.requests:
        fleet.first.request_seen.clear()
        await fleet.first.request_seen.wait()
    await lose(fleet.first, "killed")
    async with asyncio.timeout(5):
        response = await pending
    assert [entry.chosen.logprob for entry in response.logprobs] == scores
    assert "resumed_tokens" not in fleet.second.requests[0].parameters


async def _score(fleet: Fleet, scores: list[float]) -> pb.ScoreResponse:
    fleet.first.plan = lambda _: Plan(context_log_probs=scores, wait_for_stop=True)
    fleet.second.plan = lambda _: Plan(context_log_probs=scores)
    response: pb.ScoreResponse = await fleet.stub.Score(pb.ScoreRequest(model="chat", text=TEXT))
    return response


async def test_a_request_is_not_carried_from_triton_to_triton_for_ever(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, triton_max_failovers=1) as fleet:
        ids = fleet.tokenizer.encode_ids(TEXT)
        fleet.answer_from_first(ids, 3)
        fleet.second.plan = lambda seen: Plan(tokens=ids[seen.resumed_tokens :][:2], wait_for_stop=True)
        call = fleet.stub.GenerateStream(request())
        await read_tokens(call, 3)
        await lose(fleet.first, "killed")
        await read_tokens(call, 2)
        await fleet.first.start()
        await lose(fleet.second, "killed")
        async with asyncio.timeout(5):
            failure = await failure_of(rest_of(call))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")


async def test_a_stream_waits_for_the_same_triton_when_there_is_no_other(fleet: Fleet) -> None:
    ids = fleet.tokenizer.encode_ids(TEXT)
    fleet.answer_from_first(ids, 3)
    call = fleet.stub.GenerateStream(request())
    events = await read_tokens(call, 3)
    await lose(fleet.second, "killed")
    await lose(fleet.first, "killed")
    fleet.first.plan = fleet.second.plan
    await fleet.first.start()
    async with asyncio.timeout(5):
        events += await read_rest(call)
    assert text_of(events) == TEXT


async def test_without_any_triton_a_stream_ends_after_the_failover_wait(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, triton_failover_wait_ms=200) as fleet:
        fleet.answer_from_first(fleet.tokenizer.encode_ids(TEXT), 3)
        call = fleet.stub.GenerateStream(request())
        await read_tokens(call, 3)
        await lose(fleet.second, "killed")
        await lose(fleet.first, "killed")
        async with asyncio.timeout(5):
            assert (await failure_of(rest_of(call))).code is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await fleet.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_request_that_a_leaving_triton_refuses_is_done_by_another(fleet: Fleet) -> None:
    ids = fleet.tokenizer.encode_ids(TEXT)
    message = "Request for unknown model: 'chat' has no available versions"
    fleet.first.plan = lambda _: Plan(stream_error=message)
    fleet.second.plan = lambda _: Plan(tokens=ids)
    assert text_of(await events_of(fleet.stub.GenerateStream(request()))) == TEXT
