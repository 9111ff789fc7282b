"""Refuses messages with fields that are larger than the table of `bounds` allows.

One pass over the fields that can be too large, before anything is made from them. It costs what is accepted: a list is
refused by its length, a text mostly by its length, and neither is looked at.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from services.common.bounds import BOUNDS, Bound, text_is_larger
from services.common.errors import FieldViolation, invalid_fields
from services.common.status import MAX_VIOLATIONS

_Found = list[FieldViolation]
# Adds what is wrong with one field of a message, or one value of a list, named as seen from there.
_Check = Callable[[Any, _Found], None]
_check_of_type: dict[type[Message], _Check] = {}


def check_bounds(message: Message) -> None:
    """Raises INVALID_FIELD, naming each field that is too large by its path."""
    check = _check_of_type.get(type(message))
    if check is None:
        check = _check_of_type[type(message)] = _message_check(message.DESCRIPTOR) or _nothing
    found: _Found = []
    check(message, found)
    if found:
        raise invalid_fields(found)


def _nothing(message: Message, found: _Found) -> None:
    """The check of a message whose fields all have a fixed size."""


def _message_check(descriptor: Any) -> _Check | None:
    bounds = BOUNDS[descriptor.name]
    checks = [check for field in descriptor.fields if (check := _field_check(field, bounds[field.name])) is not None]
    if not checks:
        return None

    def check_message(message: Message, found: _Found) -> None:
        for check in checks:
            check(message, found)

    return check_message


def _field_check(field: FieldDescriptor, bound: Bound) -> _Check | None:
    """The check of a field, which takes its message; None if its size cannot be wrong."""
    one = _value_check(field, bound)
    if field.is_repeated:
        if bound.max_items is None:
            raise ValueError(f"{field.full_name} is a list without a bound")
        return _list_check(field.name, bound.max_items, one)
    if one is None:
        return None
    return _one_check(field.name, one, may_be_absent=field.message_type is not None)


def _value_check(field: FieldDescriptor, bound: Bound) -> _Check | None:
    """The check of one value."""
    if field.message_type is not None:
        return None if field.message_type.GetOptions().map_entry else _message_check(field.message_type)
    if field.type not in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return None
    max_bytes = bound.max_bytes
    if max_bytes is None:
        raise ValueError(f"{field.full_name} is a text without a bound")

    def check_text(text: str, found: _Found) -> None:
        if len(text) * 4 > max_bytes and text_is_larger(text, max_bytes):
            found.append(FieldViolation("", f"more than {max_bytes} bytes"))

    return None if bound.of_item else check_text


def _one_check(name: str, check_value: _Check, may_be_absent: bool) -> _Check:
    def check(message: Message, found: _Found) -> None:
        if may_be_absent and not message.HasField(name):
            return
        before = len(found)
        check_value(getattr(message, name), found)
        if len(found) > before:
            _put_in_front(name, found, before)

    return check


def _list_check(name: str, max_items: int, check_value: _Check | None) -> _Check:
    def check(message: Message, found: _Found) -> None:
        values = getattr(message, name)
        if len(values) > max_items:
            found.append(FieldViolation(name, f"{len(values)} items; at most {max_items} are allowed"))
        elif values and check_value is not None:
            check_each(check_value, values, found)

    def check_each(check_value: _Check, values: Any, found: _Found) -> None:
        before = len(found)
        for index, value in enumerate(values):
            check_value(value, found)
            if len(found) > before:
                _put_in_front(f"{name}[{index}]", found, before)
                before = len(found)
                if before >= MAX_VIOLATIONS:
                    return

    return check


def _put_in_front(path: str, found: _Found, start: int) -> None:
    """Names what was found from `start` on as seen from the message that `path` is in."""
    for index in range(start, len(found)):
        inner, description = found[index].field, found[index].description
        found[index] = FieldViolation(f"{path}.{inner}" if inner else path, description)
