"""Messages of the API from the bytes of a fuzzer: shaped by their descriptors, with values that break things."""

from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message

from services.common.bounds import BOUNDS
from tests.fuzz.choices import Choices

HARD_TEXTS = (
    "",
    " ",
    "\x00",
    "\u200b\u200d\ufeff",
    "你好 👩‍👩‍👧‍👦",
    "e\u0301",
    "<|im_end|>",
    "</s>",
    "{{ 7 * 7 }}{% for i in range(10**9) %}x{% endfor %}",
    "../../etc/passwd",
    "\U0010ffff",
    "[" * 200,
)
HARD_NUMBERS = (0, 1, -1, 2, 5, 16, 17, 100, 4096, 2**31 - 1, -(2**31))
HARD_REALS = (0.0, -0.0, 1.0, 0.5, -1.0, 100.0, 1e-45, 3e38, float("inf"), float("-inf"), float("nan"))
_SEEDS = (0, 1, 2**63, 2**64 - 1)
_MOST_TEXT_BYTES = 64
_MOST_ITEMS = 4
_TOO_MANY_IN = 16  # one list in so many is longer than its bound
_REALS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)
_UNSIGNED = (FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_UINT64)

Known = Mapping[str, Sequence[Any]]


def message_from(choices: Choices, message_type: type[Message], known: Known) -> Message:
    """A message with any of its fields set; or, one time in four, whatever the bytes are on the wire."""
    if choices.number(0, 3) == 3:
        try:
            return message_type.FromString(choices.rest())
        except DecodeError:
            return message_type()
    message = message_type()
    _fill(message, choices, known)
    return message


def _fill(message: Message, choices: Choices, known: Known) -> None:
    for field in message.DESCRIPTOR.fields:
        if field.name not in known and choices.flag():
            continue
        if not field.is_repeated:
            _set_one(message, field, choices, known)
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(_count(message, field, choices)):
                getattr(message, field.name)[choices.one_of(HARD_NUMBERS)] = choices.one_of(HARD_REALS)
        else:
            _add_items(message, field, choices, known)


def _set_one(message: Message, field: FieldDescriptor, choices: Choices, known: Known) -> None:
    if field.message_type is None:
        setattr(message, field.name, _value(field, choices, known))
        return
    child = getattr(message, field.name)
    child.SetInParent()
    _fill(child, choices, known)


def _add_items(message: Message, field: FieldDescriptor, choices: Choices, known: Known) -> None:
    items, count = getattr(message, field.name), _count(message, field, choices)
    if field.message_type is None:
        values = [_value(field, choices, known) for _ in range(min(count, _MOST_ITEMS))]
        items.extend((values * (count // max(1, len(values)) + 1))[:count])
        return
    for index in range(count):
        item = items.add()
        if index < _MOST_ITEMS:
            _fill(item, choices, known)


def _count(message: Message, field: FieldDescriptor, choices: Choices) -> int:
    most = BOUNDS[message.DESCRIPTOR.name][field.name].max_items or 0
    too_many = most <= 10_000 and choices.number(0, _TOO_MANY_IN - 1) == _TOO_MANY_IN - 1
    return most + 1 if too_many else choices.number(0, _MOST_ITEMS)


def _value(field: FieldDescriptor, choices: Choices, known: Known) -> Any:
    if field.name in known and choices.number(0, 3):
        return choices.one_of(known[field.name])
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(choices)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return choices.flag()
    if field.type == FieldDescriptor.TYPE_ENUM:
        return choices.number(0, 9)
    return _number(field, choices)


def _number(field: FieldDescriptor, choices: Choices) -> float:
    if field.type in _REALS:
        return choices.one_of(HARD_REALS) if choices.flag() else choices.real()
    if field.type in _UNSIGNED:
        return choices.one_of(_SEEDS)
    return choices.one_of(HARD_NUMBERS) if choices.flag() else choices.number(-(2**31), 2**31 - 1)


def _text(choices: Choices) -> str:
    kind = choices.number(0, 7)
    if kind < 4:
        return choices.text(_MOST_TEXT_BYTES)
    if kind < 7:
        return choices.one_of(HARD_TEXTS)
    # Long: a few times what the table has as bounds of short texts, or some more than a thread is worth.
    return choices.text(_MOST_TEXT_BYTES) * choices.number(0, 100)
