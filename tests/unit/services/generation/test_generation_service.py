import asyncio
import urllib.request

import grpc
import pytest
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan, SeenRequest
from tests.support.generation_stack import CONTEXT_TOKENS, Stack, failure_of
from tests.support.running_service import wait_for_health

EOS = 1
GREEDY = pb.SamplingOptions(temperature=0)


def says(stack: Stack, text: str, **plan: object) -> None:
    """Makes the fake engine answer `text`."""
    ids = stack.tokenizer.encode_ids(text)
    stack.fake.plan = lambda _: Plan(tokens=ids, **plan)  # type: ignore[arg-type]  # fields of Plan


async def events_of(call: grpc.aio.UnaryStreamCall) -> list[pb.GenerateStreamResponse]:
    return [event async for event in call]


async def rest_of(call: grpc.aio.UnaryStreamCall) -> None:
    """Reads to the end a call of which something was read."""
    while await call.read() is not grpc.aio.EOF:
        pass


def text_of(events: list[pb.GenerateStreamResponse], index: int = 0) -> str:
    return "".join(e.delta.text for e in events if e.HasField("delta") and e.delta.index == index)


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


async def test_the_engine_is_told_every_option(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat",
        token_ids=common_pb2.TokenIds(ids=[5, 6]),
        sampling=pb.SamplingOptions(
            temperature=0.5, top_p=0.25, top_k=7, min_p=0.125, repetition_penalty=1.5, presence_penalty=-0.5,
            frequency_penalty=2, logit_bias={9: -100}, seed=2**64 - 1,
        ),
        stopping=pb.StoppingOptions(max_tokens=9, min_tokens=3, stop_token_ids=[8], ignore_eos=True),
        response=pb.ResponseOptions(logprobs=True, top_logprobs=2),
    )  # fmt: skip
    await stack.stub.Generate(request)
    (seen,) = stack.fake.requests
    assert seen.inputs == {
        "input_ids": [5, 6],
        "stop_token_ids": [8],
        "logit_bias_ids": [9],
        "logit_bias_values": [-100],
    }
    assert seen.parameters == {
        "request_output_len": 9, "min_tokens": 3, "temperature": 0.5, "runtime_top_k": 7, "runtime_top_p": 0.25,
        "min_p": 0.125, "repetition_penalty": 1.5, "presence_penalty": -0.5, "frequency_penalty": 2.0, "seed": -1,
        "ignore_eos": True, "return_log_probs": True, "top_log_probs": 2,
    }  # fmt: skip


async def test_defaults_are_those_of_the_api(stack: Stack) -> None:
    await stack.stub.Generate(pb.GenerateRequest(model="chat", token_ids=common_pb2.TokenIds(ids=[5] * 150)))
    parameters = stack.fake.requests[0].parameters
    assert (parameters["temperature"], parameters["runtime_top_p"], parameters["repetition_penalty"]) == (1.0, 1.0, 1.0)
    assert parameters["request_output_len"] == CONTEXT_TOKENS - 150
    assert set(stack.fake.requests[0].inputs) == {"input_ids"}


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


async def test_echo_puts_the_prompt_first_in_every_completion(stack: Stack) -> None:
    says(stack, " world")
    options = {"sampling": pb.SamplingOptions(n=2), "response": pb.ResponseOptions(echo=True)}
    events = await events_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="hello", **options)))
    assert [text_of(events, 0), text_of(events, 1)] == ["hello world", "hello world"]
    ids = common_pb2.TokenIds(ids=stack.tokenizer.encode_ids("hello"))
    whole = await stack.stub.Generate(pb.GenerateRequest(model="chat", token_ids=ids, **options))
    assert [completion.text for completion in whole.completions] == ["hello world"] * 2


async def test_several_completions_have_their_own_seeds(stack: Stack) -> None:
    texts = iter("abc")
    stack.fake.plan = lambda _: Plan(tokens=stack.tokenizer.encode_ids(next(texts)))
    request = pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=3, seed=5))
    response = await stack.stub.Generate(request)
    assert [(c.index, c.text) for c in response.completions] == [(0, "a"), (1, "b"), (2, "c")]
    assert response.usage.completion_tokens == 3
    seeds = [seen.parameters["seed"] for seen in stack.fake.requests]
    assert seeds[0] == 5
    assert len(set(seeds)) == 3


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


async def test_no_new_tokens_need_no_engine(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat", text="hello", stopping=pb.StoppingOptions(max_tokens=0), response=pb.ResponseOptions(echo=True)
    )
    (completion,) = (await stack.stub.Generate(request)).completions
    assert (completion.text, completion.finish_reason) == ("hello", pb.FINISH_REASON_LENGTH)
    assert not stack.fake.requests


async def test_all_that_is_wrong_with_a_request_is_reported_at_once(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat",
        sampling=pb.SamplingOptions(
            temperature=float("nan"), top_p=0, top_k=-1, min_p=1.5, repetition_penalty=0, presence_penalty=3,
            frequency_penalty=-3, logit_bias={100_000: 1, 5: 200}, n=17, best_of=18,
        ),
        stopping=pb.StoppingOptions(
            max_tokens=-1, min_tokens=-1, stop=["", "x" * 257], stop_token_ids=[-1]
        ),
        response=pb.ResponseOptions(top_logprobs=21),
    )  # fmt: skip
    failure = await failure_of(stack.stub.Generate(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(failure.fields) == {
        "prompt", "sampling.temperature", "sampling.top_p", "sampling.top_k", "sampling.min_p",
        "sampling.repetition_penalty", "sampling.presence_penalty", "sampling.frequency_penalty",
        "sampling.logit_bias[100000]", "sampling.logit_bias[5]", "sampling.n", "sampling.best_of",
        "stopping.max_tokens", "stopping.min_tokens", "stopping.stop[0]", "stopping.stop[1]",
        "stopping.stop_token_ids[0]", "response.top_logprobs",
    }  # fmt: skip
    assert not stack.fake.requests


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "中" * 350_000}, "text"),
        ({"token_ids": common_pb2.TokenIds()}, "token_ids.ids"),
        ({"token_ids": common_pb2.TokenIds(ids=[1, 100_000])}, "token_ids.ids[1]"),
        ({"token_ids": common_pb2.TokenIds(ids=[5] * (CONTEXT_TOKENS + 1))}, "token_ids.ids"),
        ({"chat": common_pb2.Chat()}, "chat.messages"),
        ({"chat": common_pb2.Chat(messages=[common_pb2.ChatMessage(role="x")])}, "chat.messages[0].role"),
        ({"text": "x", "stopping": pb.StoppingOptions(max_tokens=CONTEXT_TOKENS)}, "stopping.max_tokens"),
        ({"text": "x", "stopping": pb.StoppingOptions(max_tokens=1, min_tokens=2)}, "stopping.min_tokens"),
        ({"text": "x", "stopping": pb.StoppingOptions(stop=["a"] * 17)}, "stopping.stop"),
        ({"text": "x", "stopping": pb.StoppingOptions(stop_token_ids=[1] * 65)}, "stopping.stop_token_ids"),
        (
            {"text": "x", "sampling": pb.SamplingOptions(logit_bias=dict.fromkeys(range(1025), 1))},
            "sampling.logit_bias",
        ),
        ({"text": "x", "sampling": pb.SamplingOptions(n=2, best_of=1)}, "sampling.best_of"),
        ({"text": "x", "response": pb.ResponseOptions(top_logprobs=1)}, "response.top_logprobs"),
    ],
)
async def test_a_wrong_field_is_named(stack: Stack, options: dict, field: str) -> None:
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", **options)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert field in failure.fields
    assert (
        await failure_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", **options)).read())
    ).fields


async def test_a_stream_refuses_to_choose_among_completions(stack: Stack) -> None:
    request = pb.GenerateStreamRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=1, best_of=2))
    assert (await failure_of(stack.stub.GenerateStream(request).read())).fields == ["sampling.best_of"]


async def test_wrong_models_are_told_apart(stack: Stack) -> None:
    for model, code in (("none", grpc.StatusCode.NOT_FOUND), ("embed", grpc.StatusCode.FAILED_PRECONDITION)):
        assert (await failure_of(stack.stub.Generate(pb.GenerateRequest(model=model, text="x")))).code is code
        assert (await failure_of(stack.stub.Score(pb.ScoreRequest(model=model, text="x")))).code is code


async def test_a_text_is_scored(stack: Stack) -> None:
    ids = stack.tokenizer.encode_ids("abcd")
    stack.fake.plan = lambda _: Plan(
        context_log_probs=[-1, -2, -3][: len(ids) - 1], parameters={"cached_prompt_tokens": 1}
    )
    response = await stack.stub.Score(pb.ScoreRequest(model="chat", text="abcd", top_logprobs=1))
    assert list(response.token_ids) == ids
    assert [p.chosen.token_id for p in response.logprobs] == ids[1:]
    assert [p.chosen.logprob for p in response.logprobs] == [-1, -2, -3]
    assert response.logprobs[0].top[0].token == "<s>"
    assert response.total_logprob == -6
    assert response.perplexity == pytest.approx(7.389056)
    assert (response.usage.prompt_tokens, response.usage.cached_prompt_tokens) == (4, 1)
    assert stack.fake.requests[0].parameters == {
        "request_output_len": 0,
        "return_context_log_probs": True,
        "top_log_probs": 1,
    }


async def test_one_token_has_no_score_and_needs_no_engine(stack: Stack) -> None:
    response = await stack.stub.Score(pb.ScoreRequest(model="chat", token_ids=common_pb2.TokenIds(ids=[5])))
    assert (list(response.token_ids), len(response.logprobs), response.perplexity) == ([5], 0, 0)
    assert not stack.fake.requests


async def test_wrong_score_requests_name_the_field(stack: Stack) -> None:
    assert (await failure_of(stack.stub.Score(pb.ScoreRequest(model="chat")))).fields == ["input"]
    request = pb.ScoreRequest(model="chat", token_ids=common_pb2.TokenIds(ids=[-1]), top_logprobs=21)
    assert set((await failure_of(stack.stub.Score(request))).fields) == {"top_logprobs", "token_ids.ids[0]"}


async def test_models_are_listed_with_their_readiness(stack: Stack) -> None:
    chat, newcomer = (await stack.stub.ListModels(pb.GenerationServiceListModelsRequest())).models
    assert (chat.name, chat.ready, chat.has_chat_template) == ("chat", True, True)
    assert (newcomer.name, newcomer.ready, newcomer.has_chat_template) == ("newcomer", False, False)


async def test_a_model_that_triton_has_not_loaded_is_never_asked_of_it(stack: Stack) -> None:
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="newcomer", text="x")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")
    assert not stack.fake.requests
    assert (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions


async def test_a_client_that_leaves_ends_the_work(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    call = stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=3)))
    while not (await call.read()).HasField("delta"):
        pass
    call.cancel()
    await stopped(stack, 3)


async def test_a_client_that_leaves_a_unary_call_ends_the_work(stack: Stack) -> None:
    says(stack, "hello", wait_for_stop=True)
    call = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
    async with asyncio.timeout(10):
        await stack.fake.request_seen.wait()
    call.cancel()
    await stopped(stack, 1)


async def stopped(stack: Stack, count: int) -> None:
    async with asyncio.timeout(10):
        while len(stack.fake.stopped_ids) < count:
            stack.fake.stop_seen.clear()
            await stack.fake.stop_seen.wait()
    assert sorted(stack.fake.stopped_ids) == sorted(seen.id for seen in stack.fake.requests)


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
    assert failure.trailers["grpc-retry-pushback-ms"] == "500"
    first.cancel()
    await stopped(stack, 6)
    says(stack, "hello")
    assert (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions[0].text == "hello"


async def test_an_engine_that_is_full_is_overload_not_unavailable(stack: Stack) -> None:
    stack.fake.plan = lambda _: Plan(stream_error="[RESOURCE_EXHAUSTED] the inbox is full")
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x")))
    assert (failure.code, failure.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED")


async def test_a_failure_of_one_completion_ends_its_siblings(stack: Stack) -> None:
    plans = iter([Plan(tokens=[5], wait_for_stop=True), Plan(error=("INTERNAL", "secret"))])
    stack.fake.plan = lambda _: next(plans)
    call = stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", sampling=pb.SamplingOptions(n=2)))
    failure = await failure_of(call)
    assert failure.reason == "INTERNAL"
    assert b"secret" not in failure.trailers["grpc-status-details-bin"]  # type: ignore[operator]  # bytes by its -bin
    async with asyncio.timeout(10):
        await stack.fake.stop_seen.wait()
    assert stack.fake.stopped_ids == [stack.fake.requests[0].id]


async def test_an_engine_that_gives_up_ends_the_completion_as_cancelled(stack: Stack) -> None:
    says(stack, "hello", finish_reason="cancelled")
    (completion,) = (await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))).completions
    assert (completion.text, completion.finish_reason) == ("hello", pb.FINISH_REASON_CANCELLED)


async def test_frontend_metrics_move(stack: Stack) -> None:
    says(stack, "hello world")
    await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
    url = f"http://127.0.0.1:{stack.metrics_port}/metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    tokens = len(stack.tokenizer.encode_ids("hello world"))
    assert "naiad_triton_up 1.0" in page
    assert 'naiad_frontend_time_to_first_token_seconds_count{model="chat"} 1.0' in page
    assert f'naiad_frontend_inter_token_latency_seconds_count{{model="chat"}} {tokens - 1}.0' in page
    assert 'naiad_frontend_request_latency_seconds_count{model="chat"} 1.0' in page
    assert 'naiad_frontend_request_success_total{finished_reason="length",model="chat"} 1.0' in page
