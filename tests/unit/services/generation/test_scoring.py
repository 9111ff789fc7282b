import pytest
from naiad.v1 import common_pb2
from naiad.v1 import generation_pb2 as pb

from tests.support.fake_triton import Plan
from tests.support.generation_stack import Stack, failure_of


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
    assert stack.fake.requests[0].options == {
        "use_prefix_cache": True,
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
