import time
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message as ProtoMessage
from google.protobuf.message_factory import GetMessageClass
from naiad.v1 import classification_pb2, common_pb2, tokenization_pb2
from naiad.v1 import generation_pb2 as pb

from services.common.bounds import BOUNDS, MAX_TEXT_BYTES, Bound, Range, text_is_larger
from services.common.bounds_check import check_bounds
from services.common.bounds_page import render_page
from services.common.errors import NaiadError, Reason
from tests.support.request_types import api_methods, request_types

NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_INT64,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_DOUBLE,
}
REQUESTS = sorted({method.input_type.name for method in api_methods()})


def fields_of(message: ProtoMessage) -> list[str]:
    """The fields that are refused, none if all is well."""
    try:
        check_bounds(message)
    except NaiadError as error:
        assert error.reason is Reason.INVALID_FIELD
        return [violation.field for violation in error.field_violations]
    return []


def test_every_field_of_every_request_is_in_the_table() -> None:
    wanted = {name: {field.name for field in descriptor.fields} for name, descriptor in request_types().items()}
    assert {name: set(fields) for name, fields in BOUNDS.items()} == wanted


@pytest.mark.parametrize("name", sorted(request_types()))
def test_lists_texts_and_numbers_have_a_bound_of_their_kind(name: str) -> None:
    for field in request_types()[name].fields:
        bound = BOUNDS[name][field.name]
        assert (bound.max_items is not None) == field.is_repeated, field.full_name
        is_text = field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)
        assert (bound.max_bytes is not None) == is_text, field.full_name
        # Token ids and seeds may be any number; a vocabulary bounds the ids.
        if field.cpp_type in NUMBERS and not field.is_repeated:
            assert bound.values is not None, field.full_name


def paths(descriptor: Descriptor, path: str = "") -> list[tuple[str, FieldDescriptor, Bound]]:
    """Every field that can be too large, with how it is reached; of a list of messages the second one."""
    found = []
    for field in descriptor.fields:
        bound = BOUNDS[descriptor.name][field.name]
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if bound.max_items is not None or (bound.max_bytes is not None and not bound.of_item):
            found.append((f"{path}{field.name}", field, bound))
        if field.message_type is not None and not is_map:
            found += paths(field.message_type, f"{path}{field.name}{'[1]' if field.is_repeated else ''}.")
    return found


def parent_at(message: ProtoMessage, path: str) -> ProtoMessage:
    """The message that holds the last field of `path`, with all on the way to it set."""
    for step in path.split(".")[:-1]:
        name, _, index = step.partition("[")
        message = getattr(message, name)
        if index:
            message.add()  # type: ignore[attr-defined]  # a list
            message = message.add()  # type: ignore[attr-defined]
        else:
            message.SetInParent()
    return message


def set_items(parent: ProtoMessage, field: FieldDescriptor, count: int) -> None:
    values: Any = getattr(parent, field.name)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        for key in range(count):
            values[key] = 0
    elif field.message_type is not None:
        for _ in range(count):
            values.add()
    else:
        values.extend(["" if field.type == FieldDescriptor.TYPE_STRING else 0] * count)


def set_bytes(parent: ProtoMessage, field: FieldDescriptor, size: int) -> None:
    text = "é" * (size // 2) + "x" * (size % 2)
    if field.is_repeated:
        getattr(parent, field.name).append("")
        getattr(parent, field.name).append(text)
    else:
        setattr(parent, field.name, text)


CASES = [
    (name, path, field, bound)
    for name in REQUESTS
    for path, field, bound in paths(request_types()[name])
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "path", "field", "bound"), CASES, ids=lambda case: case if isinstance(case, str) else ""
)
def test_the_largest_passes_and_one_more_is_refused_with_its_path(
    name: str, path: str, field: FieldDescriptor, bound: Bound
) -> None:
    if bound.max_items is not None:
        for count, refused in ((bound.max_items, []), (bound.max_items + 1, [path])):
            request = GetMessageClass(request_types()[name])()
            set_items(parent_at(request, path), field, count)
            assert fields_of(request) == refused
    if bound.max_bytes is not None and not bound.of_item:
        place = f"{path}[1]" if field.is_repeated else path
        for size, refused in ((bound.max_bytes, []), (bound.max_bytes + 1, [place])):
            request = GetMessageClass(request_types()[name])()
            set_bytes(parent_at(request, path), field, size)
            assert fields_of(request) == refused


def test_what_is_too_large_is_reported_together() -> None:
    request = pb.GenerateRequest(
        model="m" * 257,
        stopping=pb.StoppingOptions(stop=["x" * 257, "x", "y" * 300], stop_token_ids=[1] * 65),
        chat=common_pb2.Chat(messages=[common_pb2.ChatMessage(role="u" * 65)]),
    )
    assert set(fields_of(request)) == {
        "model", "stopping.stop[0]", "stopping.stop[2]", "stopping.stop_token_ids", "chat.messages[0].role",
    }  # fmt: skip


def test_a_text_of_a_batch_is_left_to_its_own_answer() -> None:
    large = "x" * (MAX_TEXT_BYTES + 1)
    assert not fields_of(tokenization_pb2.TokenizeRequest(model="m", texts=["a", large]))
    pair = classification_pb2.TextPair(first=large)
    assert not fields_of(classification_pb2.ClassifyRequest(model="m", pairs=[pair]))


@pytest.mark.parametrize("text", ["x" * 100, "é" * 50, "中" * 33 + "x", "\U0010ffff" * 25, ""])
def test_sizes_are_those_of_utf_8(text: str) -> None:
    assert not text_is_larger(text, 100)
    assert text_is_larger(text + "x" * (101 - len(text.encode())), 100)


def test_ranges_say_what_they_allow() -> None:
    assert str(Range(0, 1, above=True)) == "over 0, at most 1"
    assert str(Range(1, 2**31 - 1)) == "from 1 to 2147483647"
    assert not Range(0, 1).allows(float("nan"))
    assert not Range(0, 1, above=True).allows(0)


def test_the_cost_does_not_grow_with_what_is_refused() -> None:
    """A list a hundred times too long is refused by its length: well under what looking at it would take."""
    request = pb.GenerateRequest(model="m", stopping=pb.StoppingOptions(stop=["x" * 300] * 300_000))
    fields_of(request)
    begun_s = time.perf_counter()
    assert fields_of(request) == ["stopping.stop"]
    assert time.perf_counter() - begun_s < 0.005


def test_the_page_is_current() -> None:
    page = Path(__file__).parents[4] / "docs" / "bounds.md"
    assert page.read_text(encoding="utf-8") == render_page()
