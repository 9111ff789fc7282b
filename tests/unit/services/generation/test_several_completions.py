import pytest
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan, SeenRequest
from tests.support.generation_stack import Stack, events_of, failure_of, says, stopped, text_of


def says_each(stack: Stack, *texts: str, **plan: object) -> None:
    """Makes the fake engine answer the texts, one a sequence."""
    ids = [stack.tokenizer.encode_ids(text) for text in texts]
    stack.fake.plan = lambda seen: Plan(tokens=ids[seen.sequence_index], **plan)  # type: ignore[arg-type]  # fields


async def test_several_completions_are_one_request_to_the_engine(stack: Stack) -> None:
    says_each(stack, "a", "b", "c")
    request = pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=3, seed=5))
    response = await stack.stub.Generate(request)
    assert [(c.index, c.text) for c in response.completions] == [(0, "a"), (1, "b"), (2, "c")]
    assert response.usage.completion_tokens == 3
    (seen,) = stack.fake.requests
    assert (seen.parameters["num_return_sequences"], seen.parameters["seed"]) == (3, 5)


async def test_each_completion_of_a_stream_has_its_own_text_and_end(stack: Stack) -> None:
    says_each(stack, "你好", "hello world", "e\u0301")
    request = pb.GenerateStreamRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=3))
    events = await events_of(stack.stub.GenerateStream(request))
    assert [text_of(events, index) for index in range(3)] == ["你好", "hello world", "e\u0301"]
    assert sorted(event.finished.index for event in events if event.HasField("finished")) == [0, 1, 2]
    assert [event.WhichOneof("event") for event in events].count("summary") == 1


async def test_a_stop_text_ends_its_own_completion_only(stack: Stack) -> None:
    texts = ["go on END now", "no such word", "first END too"]
    ids = [stack.tokenizer.encode_ids(text) for text in texts]
    # The second ends by itself, the others only when they are told to.
    stack.fake.plan = lambda seen: Plan(ids[seen.sequence_index], wait_for_stop=seen.sequence_index != 1)
    request = pb.GenerateStreamRequest(
        model="chat", text="x", sampling=pb.SamplingOptions(n=3), stopping=pb.StoppingOptions(stop=["END"])
    )
    events = await events_of(stack.stub.GenerateStream(request))
    assert [text_of(events, index) for index in range(3)] == ["go on ", "no such word", "first "]
    ends = {event.finished.index: event.finished.finish_reason for event in events if event.HasField("finished")}
    assert ends == {0: pb.FINISH_REASON_STOP, 1: pb.FINISH_REASON_LENGTH, 2: pb.FINISH_REASON_STOP}
    stops = [index for _, index in stack.fake.stopped_sequences]
    # The last one that is still at work is the whole request by then.
    assert set(stops) <= {0, 2}
    assert len(stops) + len(stack.fake.stopped_ids) == 2


async def test_times_are_those_of_the_slowest_and_cached_tokens_those_of_the_first(stack: Stack) -> None:
    costs = [
        {"cached_prompt_tokens": 1, "queue_us": 10, "prefill_us": 40, "decode_us": 30},
        {"cached_prompt_tokens": 9, "queue_us": 20, "prefill_us": 20, "decode_us": 50},
    ]
    stack.fake.plan = lambda seen: Plan(tokens=[5], parameters=costs[seen.sequence_index])
    response = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=2)))
    timings = response.timings
    assert [t.ToMicroseconds() for t in (timings.queue, timings.prefill, timings.decode)] == [20, 40, 50]
    assert response.usage.cached_prompt_tokens == 1


async def test_the_best_of_several_are_returned(stack: Stack) -> None:
    plans = iter([("a", -3.0), ("b", -1.0), ("c", -2.0)])

    def plan(_: SeenRequest) -> Plan:
        text, logprob = next(plans)
        return Plan(tokens=stack.tokenizer.encode_ids(text), logprobs=[logprob])

    stack.fake.plan = plan
    request = pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=2, best_of=3))
    response = await stack.stub.Generate(request)
    assert [(c.index, c.text) for c in response.completions] == [(0, "b"), (1, "c")]
    assert response.usage.completion_tokens == 3
    assert not response.completions[0].logprobs


async def test_echo_puts_the_prompt_first_in_every_completion(stack: Stack) -> None:
    says(stack, " world")
    options = {"sampling": pb.SamplingOptions(n=2), "response": pb.ResponseOptions(echo=True)}
    events = await events_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="hello", **options)))
    assert [text_of(events, 0), text_of(events, 1)] == ["hello world", "hello world"]
    ids = common_pb2.TokenIds(ids=stack.tokenizer.encode_ids("hello"))
    whole = await stack.stub.Generate(pb.GenerateRequest(model="chat", token_ids=ids, **options))
    assert [completion.text for completion in whole.completions] == ["hello world"] * 2


async def test_a_failure_of_one_completion_ends_its_siblings(stack: Stack) -> None:
    plans = [Plan(tokens=[5], wait_for_stop=True), Plan(error=("INTERNAL", "secret"))]
    stack.fake.plan = lambda seen: plans[seen.sequence_index]
    call = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=2)))
    failure = await failure_of(call)
    assert failure.reason == "INTERNAL"
    assert b"secret" not in failure.trailers["grpc-status-details-bin"]  # type: ignore[operator]  # bytes by its -bin
    await stopped(stack, 1)


@pytest.mark.parametrize("claimed_index", [0, 2, -1])
async def test_an_engine_that_mixes_completions_up_is_an_internal_error(stack: Stack, claimed_index: int) -> None:
    plans = [Plan(tokens=[5]), Plan(tokens=[5], parameters={"sequence_index": claimed_index})]
    stack.fake.plan = lambda seen: plans[seen.sequence_index]
    call = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=2)))
    assert (await failure_of(call)).reason == "INTERNAL"
