"""Random requests to the real stack: every answer is a result or a clear refusal; the next caller notices nothing."""

import random
from collections.abc import Iterator

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from naiad.v1 import classification_pb2, generation_pb2, tokenization_pb2

from tests.fuzz.random_messages import fill
from tests.support.stack import SERVICES, Stack

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(600)]

REQUESTS_A_METHOD = 60
SCHEMAS = {
    "tokenization": tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"],
    "generation": generation_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    "classification": classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"],
}
# Names that get a request past the first check; few tokens, so that it ends soon.
KNOWN = {
    "model": ("chat", "embed", "sentiment", "entities", "pairs"),
    "role": ("user", "system", "assistant"),
    "max_tokens": (1, 2, 3),
    "n": (1, 2),
    "best_of": (2, 3),
    "temperature": (0.0, 0.7),
    "top_p": (0.9,),
    "priority": (-100, 0, 7),
    "json_schema": ("{}", '{"type": "boolean"}'),
    "regex": ("[a-c]{1,3}", "(yes|no)"),
    "json_object": (True,),
    "labels": ("sports", "politics", "x", "日本"),
    "hypothesis_template": ("{}", "It is {}."),
    "min_score": (0.0, 0.5),
    "include_outside": (False,),
    "window_overlap_tokens": (0, 8),
    "max_samples": (16, 40),
    "query": ("What is it?",),
    "label": ("positive", "negative"),
    # What a guide excludes.
    "ignore_eos": (False,),
    "min_tokens": (0,),
}
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
METHODS = [(name, method.name) for name, schema in SCHEMAS.items() for method in schema.methods]


@pytest.mark.parametrize(("service", "method"), METHODS)
def test_random_requests_are_answered_or_refused(stack: Stack, service: str, method: str) -> None:
    schema = SCHEMAS[service].methods_by_name[method]
    channel = stack.channel(service)
    kinds = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    call = kinds[schema.client_streaming, schema.server_streaming](
        f"/{SERVICES[service]}/{method}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=GetMessageClass(schema.output_type).FromString,
    )
    surprises = []
    for seed in range(REQUESTS_A_METHOD):
        request = GetMessageClass(schema.input_type)()
        fill(request, random.Random(f"{method}-{seed}"), KNOWN)
        if method.startswith("Generate") and not 0 <= request.stopping.max_tokens <= 8 and seed % 2:
            request.stopping.max_tokens = 2
        try:
            answer = call(_stream(request, seed) if schema.client_streaming else request, timeout=60)
            if schema.server_streaming:
                list(answer)
        except grpc.RpcError as error:
            if error.code() not in REFUSALS or not error.details():
                surprises.append((seed, error.code(), error.details()))
    assert surprises == []
    assert stack.health(service) == 1


def _stream(first: Message, seed: int) -> Iterator[Message]:
    """The message and up to three more, of which half lack what only the first one may have."""
    chance = random.Random(seed)
    yield first
    for _ in range(chance.randrange(4)):
        message = type(first)()
        fill(message, chance, KNOWN)
        if chance.random() < 0.5:
            message.ClearField("options")
        yield message


def test_bytes_that_are_no_message_are_refused(stack: Stack) -> None:
    chance = random.Random(1)
    call = stack.channel("generation").unary_unary(f"/{SERVICES['generation']}/Generate")
    for size in (1, 2, 10, 1000, 100_000):
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff" + chance.randbytes(size), timeout=30)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert stack.health("generation") == 1
