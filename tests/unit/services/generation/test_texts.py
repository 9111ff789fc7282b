import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan
from tests.support.generation_stack import Stack, events_of, says, text_of

EOS = 1


async def test_a_completion_carries_text_reason_usage_and_timings(stack: Stack) -> None:
    says(stack, " Paris.", parameters={"cached_prompt_tokens": 2, "queue_us": 10, "prefill_us": 20, "decode_us": 30})
    response = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="The capital is"))
    (completion,) = response.completions
    assert (completion.text, completion.finish_reason) == (" Paris.", pb.FINISH_REASON_LENGTH)
    assert not completion.HasField("stop_match")
    assert not completion.token_ids
    assert not completion.logprobs
    assert response.usage.prompt_tokens == len(stack.tokenizer.encode_ids("The capital is"))
    assert response.usage.cached_prompt_tokens == 2
    assert response.usage.completion_tokens == len(stack.tokenizer.encode_ids(" Paris."))
    timings = response.timings
    assert [t.ToMicroseconds() for t in (timings.queue, timings.prefill, timings.decode)] == [10, 20, 30]
    assert timings.time_to_first_token.ToMicroseconds() > 0


async def test_a_chat_is_rendered_by_the_template(stack: Stack) -> None:
    chat = common_pb2.Chat(messages=[common_pb2.ChatMessage(role="user", content="hi")])
    await stack.stub.Generate(pb.GenerateRequest(model="chat", chat=chat))
    ids = stack.fake.requests[0].inputs["input_ids"]
    assert stack.tokenizer.decode(ids, skip_special_tokens=False) == "<|user|>hi</s><|assistant|>"


async def test_a_stream_starts_then_brings_text_then_ends(stack: Stack) -> None:
    says(stack, "你好 👨‍👩‍👧 e\u0301 हिन्दी")
    call = stack.stub.GenerateStream(
        pb.GenerateStreamRequest(model="chat", text="hello"), metadata=(("x-request-id", "id-3"),)
    )
    events = await events_of(call)
    kinds = [event.WhichOneof("event") for event in events]
    assert kinds == ["started", *["delta"] * (len(events) - 3), "finished", "summary"]
    assert events[0].started.request_id == "id-3"
    assert text_of(events) == "你好 👨‍👩‍👧 e\u0301 हिन्दी"
    assert not any("\ufffd" in event.delta.text for event in events)


async def test_a_stop_token_is_counted_but_not_shown(stack: Stack) -> None:
    ids = [*stack.tokenizer.encode_ids("yes"), EOS]
    stack.fake.plan = lambda _: Plan(tokens=ids, finish_reason="stop", stop_token_id=EOS)
    request = pb.GenerateRequest(model="chat", text="x", response=pb.ResponseOptions(return_token_ids=True))
    response = await stack.stub.Generate(request)
    (completion,) = response.completions
    assert (completion.text, list(completion.token_ids)) == ("yes", ids)
    assert (completion.finish_reason, completion.stop_match.token_id) == (pb.FINISH_REASON_STOP, EOS)
    assert response.usage.completion_tokens == len(ids)


async def test_an_ordinary_token_that_stops_is_not_shown_but_one_passed_over_is(stack: Stack) -> None:
    a, b = stack.tokenizer.encode_ids("a") + stack.tokenizer.encode_ids("b")
    stack.fake.plan = lambda _: Plan(tokens=[b, a, b], finish_reason="stop", stop_token_id=b)
    request = pb.GenerateRequest(model="chat", text="x", stopping=pb.StoppingOptions(stop_token_ids=[b], min_tokens=2))
    assert (await stack.stub.Generate(request)).completions[0].text == "ba"
    stack.fake.plan = lambda _: Plan(tokens=[a, b], finish_reason="length")
    assert (await stack.stub.Generate(request)).completions[0].text == "ab"


@pytest.mark.parametrize("chunk", [1, 3, 100])
async def test_a_stop_text_across_tokens_ends_the_text_before_it_and_the_work(stack: Stack, chunk: int) -> None:
    says(stack, "hello END of the world", chunk=chunk, wait_for_stop=True)
    request = pb.GenerateStreamRequest(
        model="chat",
        text="x",
        stopping=pb.StoppingOptions(stop=["o END o", "never"]),
        response=pb.ResponseOptions(return_token_ids=True),
    )
    events = await events_of(stack.stub.GenerateStream(request))
    assert text_of(events) == "hell"
    (finished,) = [event.finished for event in events if event.HasField("finished")]
    assert (finished.finish_reason, finished.stop_match.text) == (pb.FINISH_REASON_STOP, "o END o")
    assert stack.fake.stopped_ids == [stack.fake.requests[0].id]
    ids = [token for event in events for token in event.delta.token_ids]
    assert stack.tokenizer.decode(ids).startswith("hello END o")
    assert (
        events[-1].summary.usage.completion_tokens
        == len(ids)
        < len(stack.tokenizer.encode_ids("hello END of the world"))
    )


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.text(alphabet="ab中👍", max_size=12),
    stops=st.lists(st.text(alphabet="ab中👍", min_size=1, max_size=3), max_size=3),
    chunk=st.integers(1, 5),
)
async def test_stream_and_whole_answer_agree_on_any_stop_text(
    stack: Stack, text: str, stops: list[str], chunk: int
) -> None:
    says(stack, text, chunk=chunk)
    stopping = pb.StoppingOptions(stop=stops)
    whole = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", stopping=stopping))
    streamed = await events_of(
        stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x", stopping=stopping))
    )
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    expected = text if not ends else text[: min(ends) - max(len(s) for s in stops if text[: min(ends)].endswith(s))]
    assert whole.completions[0].text == text_of(streamed) == expected


async def test_logprobs_come_with_their_tokens(stack: Stack) -> None:
    ids = stack.tokenizer.encode_ids("ab")
    stack.fake.plan = lambda _: Plan(tokens=ids, chunk=2, logprobs=[-0.25, -0.75])
    request = pb.GenerateRequest(model="chat", text="x", response=pb.ResponseOptions(logprobs=True, top_logprobs=2))
    positions = (await stack.stub.Generate(request)).completions[0].logprobs
    assert [(p.chosen.token_id, p.chosen.token, p.chosen.logprob) for p in positions] == [
        (ids[0], "a", -0.25), (ids[1], "b", -0.75),
    ]  # fmt: skip
    assert [(t.token_id, t.token, t.logprob) for t in positions[0].top] == [(0, "<s>", -1), (1, "</s>", -1)]


async def test_no_new_tokens_need_no_engine(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat", text="hello", stopping=pb.StoppingOptions(max_tokens=0), response=pb.ResponseOptions(echo=True)
    )
    (completion,) = (await stack.stub.Generate(request)).completions
    assert (completion.text, completion.finish_reason) == ("hello", pb.FINISH_REASON_LENGTH)
    assert not stack.fake.requests


async def test_an_engine_that_gives_up_ends_the_completion_as_cancelled(stack: Stack) -> None:
    says(stack, "hello", finish_reason="cancelled")
    (completion,) = (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions
    assert (completion.text, completion.finish_reason) == ("hello", pb.FINISH_REASON_CANCELLED)
