import grpc
import pytest
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan
from tests.support.generation_stack import CONTEXT_TOKENS, Stack, failure_of


async def test_all_that_is_wrong_with_a_request_is_reported_at_once(stack: Stack) -> None:
    request = pb.GenerateRequest(
        model="chat",
        sampling=pb.SamplingOptions(
            temperature=float("nan"), top_p=0, top_k=-1, min_p=1.5, repetition_penalty=0, presence_penalty=3,
            frequency_penalty=-3, logit_bias={100_000: 1, 5: 200}, n=17, best_of=18,
        ),
        stopping=pb.StoppingOptions(
            max_tokens=-1, min_tokens=-1, stop=["", "x"], stop_token_ids=[-1]
        ),
        response=pb.ResponseOptions(top_logprobs=21),
        priority=101,
    )  # fmt: skip
    failure = await failure_of(stack.stub.Generate(request))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert set(failure.fields) == {
        "prompt", "sampling.temperature", "sampling.top_p", "sampling.top_k", "sampling.min_p",
        "sampling.repetition_penalty", "sampling.presence_penalty", "sampling.frequency_penalty",
        "sampling.logit_bias[100000]", "sampling.logit_bias[5]", "sampling.n", "sampling.best_of",
        "stopping.max_tokens", "stopping.min_tokens", "stopping.stop[0]",
        "stopping.stop_token_ids[0]", "response.top_logprobs", "priority",
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
        ({"text": "x", "priority": -101}, "priority"),
        ({"text": "x", "guide": pb.Guide()}, "guide"),
        ({"text": "x", "guide": pb.Guide(json_object=False)}, "guide.json_object"),
        ({"text": "x", "guide": pb.Guide(regex="")}, "guide.regex"),
        ({"text": "x", "guide": pb.Guide(regex="中" * 21_846)}, "guide.regex"),
        ({"text": "x", "guide": pb.Guide(json_schema="{")}, "guide.json_schema"),
        ({"text": "x", "guide": pb.Guide(json_schema="7")}, "guide.json_schema"),
        ({"text": "x", "guide": pb.Guide(json_schema='{"minimum": NaN}')}, "guide.json_schema"),
        ({"text": "x", "guide": pb.Guide(json_schema="[" * 60_000)}, "guide.json_schema"),
        (
            {"text": "x", "guide": pb.Guide(regex="a"), "stopping": pb.StoppingOptions(ignore_eos=True)},
            "stopping.ignore_eos",
        ),
        (
            {"text": "x", "guide": pb.Guide(regex="a"), "stopping": pb.StoppingOptions(min_tokens=1)},
            "stopping.min_tokens",
        ),
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


@pytest.mark.parametrize(
    ("guide", "field"), [(pb.Guide(regex="("), "guide.regex"), (pb.Guide(json_schema="{}"), "guide.json_schema")]
)
async def test_a_guide_that_the_engine_refuses_is_named(stack: Stack, guide: pb.Guide, field: str) -> None:
    message = "guided_decoding_guide: unbalanced parenthesis at 0"
    stack.fake.plan = lambda _: Plan(error=("INVALID_ARGUMENT", message))
    failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", text="x", guide=guide)))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert failure.fields == [field]
