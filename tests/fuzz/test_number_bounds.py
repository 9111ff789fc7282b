"""Each number of the table of bounds is refused just outside its range, by the service that reads it."""

import copy
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from naiad.v1 import classification_pb2 as cpb
from naiad.v1 import generation_pb2 as gpb
from naiad.v1 import tokenization_pb2 as tpb

from services.common.bounds import BOUNDS, Range
from tests.fuzz.service_under_fuzz import ServiceUnderFuzz
from tests.support.request_types import api_methods

pytestmark = pytest.mark.fuzz
# Requests that are served, with every message set that holds numbers.
SERVED: dict[str, Message] = {
    "Tokenize": tpb.TokenizeRequest(model="chat", texts=["hello"]),
    "Generate": gpb.GenerateRequest(
        model="chat",
        text="hello",
        sampling=gpb.SamplingOptions(),
        stopping=gpb.StoppingOptions(),
        response=gpb.ResponseOptions(logprobs=True),
    ),
    "GenerateStream": gpb.GenerateStreamRequest(
        model="chat",
        text="hello",
        sampling=gpb.SamplingOptions(),
        stopping=gpb.StoppingOptions(),
        response=gpb.ResponseOptions(logprobs=True),
    ),
    "Score": gpb.ScoreRequest(model="chat", text="hello"),
    "Classify": cpb.ClassifyRequest(model="plain", texts=["cat"]),
    "ClassifyStream": cpb.ClassifyStreamRequest(
        options=cpb.ClassifyStreamOptions(model="plain"), items=[cpb.ClassifyStreamItem(text="cat")]
    ),
    "ClassifyTokens": cpb.ClassifyTokensRequest(model="tagger", texts=["ada"]),
    "Explain": cpb.ExplainRequest(model="plain", text="cat"),
    "Rerank": cpb.RerankRequest(model="ranker", query="cat", documents=["cat"]),
    "Embed": cpb.EmbedRequest(model="embed", texts=["cat"]),
}
REALS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
METHODS = {method.name: method for method in api_methods() if method.name in SERVED}


@pytest.fixture(scope="module")
def services() -> Iterator[dict[str, ServiceUnderFuzz]]:
    names = {method.containing_service.name for method in METHODS.values()}
    services = {name: ServiceUnderFuzz(name) for name in names}
    yield services
    for service in services.values():
        service.close()


def numbers(message: Message, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], FieldDescriptor, Range]]:
    for field in message.DESCRIPTOR.fields:
        values = BOUNDS[message.DESCRIPTOR.name][field.name].values
        if values is not None:
            yield (*path, field.name), field, values
        elif field.message_type is not None and not field.is_repeated and message.HasField(field.name):
            yield from numbers(getattr(message, field.name), (*path, field.name))


def outside(field: FieldDescriptor, values: Range) -> list[float]:
    """Values just outside that the field can hold."""
    if field.is_repeated:  # a map of reals
        return [values.low - 0.5, values.high + 0.5, float("nan")]
    if field.type in REALS:
        return [values.low if values.above else values.low - 0.001, values.high + 0.001, float("nan"), float("inf")]
    return [number for number in (int(values.low) - 1, int(values.high) + 1) if -(2**31) <= number < 2**31]


CASES = [
    pytest.param(method, path, value, id=f"{method}-{'.'.join(path)}-{value:g}")
    for method, served in SERVED.items()
    for path, field, values in numbers(served)
    for value in outside(field, values)
]


def test_the_cases_cover_every_number_of_the_table() -> None:
    covered = {field.full_name for served in SERVED.values() for _, field, _ in numbers(served)}
    bounded = {
        f"naiad.v1.{message}.{field}" for message, fields in BOUNDS.items() for field in fields if fields[field].values
    }
    assert covered == bounded


@pytest.mark.parametrize("method", SERVED)
def test_what_the_cases_change_is_served(services: dict[str, ServiceUnderFuzz], method: str) -> None:
    assert call(services, method, SERVED[method]) is grpc.StatusCode.OK


@pytest.mark.parametrize(("method", "path", "value"), CASES)
def test_a_number_outside_its_range_is_refused(
    services: dict[str, ServiceUnderFuzz], method: str, path: tuple[str, ...], value: Any
) -> None:
    request = copy.deepcopy(SERVED[method])
    parent: Any = request
    for name in path[:-1]:
        parent = getattr(parent, name)
    if path[-1] == "logit_bias":
        parent.logit_bias[5] = value
    else:
        setattr(parent, path[-1], value)
    assert call(services, method, request) is grpc.StatusCode.INVALID_ARGUMENT


def call(services: dict[str, ServiceUnderFuzz], method: str, request: Message) -> grpc.StatusCode:
    service = METHODS[method].containing_service
    return services[service.name].call(f"/{service.full_name}/{method}", [request])
