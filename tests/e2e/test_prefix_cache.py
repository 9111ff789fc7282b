"""A beginning that was seen before is not computed again, and the answer says so."""

import pytest
from naiad.v1 import common_pb2, generation_pb2, generation_pb2_grpc

from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

BLOCK_TOKENS = 16
_RULES = "You sell tickets for the harbour ferry, you know every timetable by heart, and you answer in one sentence."


def generate(stack: Stack, request: generation_pb2.GenerateRequest) -> generation_pb2.GenerateResponse:
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    request.sampling.temperature = 0
    request.stopping.max_tokens = 24
    return stub.Generate(request, timeout=120)


def test_the_next_turn_of_a_chat_reuses_the_turns_before(stack: Stack) -> None:
    first = generation_pb2.GenerateRequest(model="chat")
    turns = first.chat.messages
    turns.add(role="system", content=_RULES)
    turns.add(role="user", content="When does the first ferry leave on Sundays?")
    answer = generate(stack, first)
    assert answer.usage.cached_prompt_tokens == 0
    assert answer.usage.prompt_tokens > 2 * BLOCK_TOKENS

    second = generation_pb2.GenerateRequest(model="chat")
    second.chat.messages.extend(turns)
    second.chat.messages.append(common_pb2.ChatMessage(role="assistant", content=answer.completions[0].text))
    second.chat.messages.add(role="user", content="And the last one?")
    reused = generate(stack, second).usage
    assert reused.cached_prompt_tokens >= answer.usage.prompt_tokens // BLOCK_TOKENS * BLOCK_TOKENS
    assert reused.cached_prompt_tokens < reused.prompt_tokens


def test_reuse_changes_no_answer_and_can_be_refused(stack: Stack) -> None:
    request = generation_pb2.GenerateRequest(
        model="chat", text=f"Ferry notes. {_RULES} The first rule of the harbour is"
    )
    fresh = generate(stack, request)
    again = generate(stack, request)
    full_blocks = (fresh.usage.prompt_tokens - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert (fresh.usage.cached_prompt_tokens, again.usage.cached_prompt_tokens) == (0, full_blocks)
    request.use_prefix_cache = False
    refused = generate(stack, request)
    assert refused.usage.cached_prompt_tokens == 0
    assert fresh.completions == again.completions == refused.completions
