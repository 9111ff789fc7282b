"""Company changes nothing: 32 streams at once give what each gives alone, which is what transformers gives."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.support.stack import Stack
from tests.support.transformers_reference import TransformersReference

pytestmark = [pytest.mark.e2e, pytest.mark.conformance, pytest.mark.timeout(600)]

PROMPTS = [
    "The capital of France is",
    "Once upon a time, in a village by the sea,",
    "def fibonacci(n):\n",
    "1, 2, 3, 4, 5,",
    "Water boils at",
    "Dear Sir or Madam,\n\nI am writing to",
    "The three laws of motion, as Newton put them, say that a body at rest stays at rest unless a force",
    "Q: What do bees make?\nA:",
]


def request(number: int) -> generation_pb2.GenerateStreamRequest:
    """Request `number` of 32: prompts of different lengths, different limits and options, all greedy."""
    text = PROMPTS[number % 8] + PROMPTS[(number // 8 + number) % 8] * (number // 8)
    made = generation_pb2.GenerateStreamRequest(model="chat", text=text)
    made.sampling.temperature = 0
    made.stopping.max_tokens = 8 + 5 * (number % 7)
    made.stopping.ignore_eos = number % 3 == 0
    made.response.return_token_ids = True
    made.response.logprobs = number % 4 == 0
    return made


def generated(stack: Stack, model_request: generation_pb2.GenerateStreamRequest) -> list[int]:
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    return [token for event in stub.GenerateStream(model_request, timeout=300) for token in event.delta.token_ids]


def test_32_concurrent_streams_equal_each_alone_and_transformers(
    stack: Stack, transformers_reference: TransformersReference
) -> None:
    requests = [request(number) for number in range(32)]
    alone = [generated(stack, one) for one in requests]
    with ThreadPoolExecutor(32) as pool:
        together = list(pool.map(lambda one: generated(stack, one), requests))
    assert together == alone
    wanted = [
        transformers_reference.greedy(
            transformers_reference.encode(one.text), one.stopping.max_tokens, one.stopping.ignore_eos
        )
        for one in requests
    ]
    assert alone == [list(continuation.tokens) for continuation in wanted]
