"""Random protobuf messages, made from their descriptors, that lean towards values which break things."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

_TEXTS = (
    "",
    " ",
    "\x00",
    "Hello",
    "你好 👩‍👩‍👧‍👦",
    "\u200b\u200d\ufeff",
    "مرحبا",
    "e\u0301" * 50,
    "<|im_end|>",
    "{{ 7 * 7 }}{% for i in range(10**9) %}x{% endfor %}",
    "../../etc/passwd",
    "a" * 10_000,
    "\U0010ffff",
)
_NUMBERS = (0, 1, -1, 2, 5, 100, 4096, 2**31 - 1, -(2**31))
_REALS = (0.0, -0.0, 1.0, 0.5, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
_MAX_REPEATS = 4
_MAX_DEPTH = 4
_VALUES: dict[int, tuple[Any, ...]] = {
    FieldDescriptor.TYPE_STRING: _TEXTS,
    FieldDescriptor.TYPE_BOOL: (False, True),
    FieldDescriptor.TYPE_ENUM: (0, 1, 2, 3, 4, 77),
    FieldDescriptor.TYPE_FLOAT: _REALS,
    FieldDescriptor.TYPE_DOUBLE: _REALS,
    FieldDescriptor.TYPE_INT32: _NUMBERS,
    FieldDescriptor.TYPE_INT64: _NUMBERS,
}


def fill(message: Message, chance: random.Random, known: dict[str, tuple[Any, ...]], depth: int = 0) -> None:
    """Sets random fields of `message`. A field named in `known` takes one of those values three times in four."""
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.35 and field.name not in known:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(chance.randrange(_MAX_REPEATS)):
                getattr(message, field.name)[chance.choice(_NUMBERS)] = chance.choice(_REALS)
        elif field.message_type is not None:
            if depth < _MAX_DEPTH:
                _fill_children(message, field, chance, known, depth)
        elif field.is_repeated:
            values = [_value(field, chance, known) for _ in range(chance.randrange(_MAX_REPEATS))]
            getattr(message, field.name).extend(values)
        else:
            setattr(message, field.name, _value(field, chance, known))


def _fill_children(
    message: Message, field: FieldDescriptor, chance: random.Random, known: dict[str, tuple[Any, ...]], depth: int
) -> None:
    if field.is_repeated:
        for _ in range(chance.randrange(_MAX_REPEATS)):
            fill(getattr(message, field.name).add(), chance, known, depth + 1)
    else:
        child = getattr(message, field.name)
        child.SetInParent()
        fill(child, chance, known, depth + 1)


def _value(field: FieldDescriptor, chance: random.Random, known: dict[str, tuple[Any, ...]]) -> Any:
    if field.name in known and chance.random() < 0.75:
        return chance.choice(known[field.name])
    if field.type in _VALUES:
        return chance.choice(_VALUES[field.type])
    return abs(chance.choice(_NUMBERS))  # unsigned
