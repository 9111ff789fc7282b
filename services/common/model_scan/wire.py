"""Fields of protobuf messages in a file, read where they lie."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.reading import EntryFile

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WINDOW_BYTES = 256 * 1024
_MAX_VARINT_BYTES = 10
_FIXED_BYTES = {FIXED64: 8, FIXED32: 4}


@dataclass(frozen=True)
class Span:
    """Bytes `start` to `end` (exclusive) of the file."""

    start: int
    end: int


@dataclass(frozen=True)
class WireField:
    """One field: `value` for VARINT, else `span` with its content."""

    number: int
    wire_type: int
    value: int
    span: Span


class WireReader:
    """Reads at most `max_fields` fields of one file, however they are nested: a bound of time and of nothing else."""

    def __init__(self, file: EntryFile, max_fields: int) -> None:
        self._file = file
        self._fields_left = max_fields
        self._window = b""
        self._window_start = 0

    def fields(self, span: Span) -> Iterator[WireField]:
        """The fields of the message in `span`, in their order."""
        position = span.start
        while position < span.end:
            self._fields_left -= 1
            if self._fields_left < 0:
                raise self.error("has too many fields")
            key, position = self._varint(position, span.end)
            number, wire_type = key >> 3, key & 7
            if wire_type == VARINT:
                value, position = self._varint(position, span.end)
                yield WireField(number, wire_type, value, Span(position, position))
                continue
            if wire_type == BYTES:
                length, position = self._varint(position, span.end)
            elif wire_type in _FIXED_BYTES:
                length = _FIXED_BYTES[wire_type]
            else:
                raise self.error("is no ONNX model: it has a group or an unknown wire type")
            if length > span.end - position:
                raise self.error("is truncated or damaged: a field ends outside its message")
            yield WireField(number, wire_type, 0, Span(position, position + length))
            position += length

    def varints(self, field: WireField) -> Iterator[int]:
        """Numbers of a repeated field, which may be packed or not."""
        if field.wire_type == VARINT:
            yield field.value
            return
        position = field.span.start
        while position < field.span.end:
            value, position = self._varint(position, field.span.end)
            yield value

    def text(self, field: WireField, limit_bytes: int) -> str:
        """A text field of at most `limit_bytes` bytes."""
        if field.wire_type != BYTES or field.span.end - field.span.start > limit_bytes:
            raise self.error(f"has a name that is no text of at most {limit_bytes} bytes")
        try:
            return self._bytes(field.span.start, field.span.end).decode("utf-8")
        except UnicodeDecodeError:
            raise self.error("has a name that is not UTF-8") from None

    def error(self, cause: str) -> ModelScanError:
        """A refusal of this file."""
        return ModelScanError(self._file.shown, cause)

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        """The number at `position`, and where it ends."""
        piece = self._bytes(position, min(end, position + _MAX_VARINT_BYTES))
        value = 0
        for index, byte in enumerate(piece):
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position + index + 1
        raise self.error("is truncated or damaged: a number does not end")

    def _bytes(self, start: int, end: int) -> bytes:
        first = start - self._window_start
        if first < 0 or end - self._window_start > len(self._window):
            self._window = self._file.read_at(start, max(_WINDOW_BYTES, end - start))
            self._window_start, first = start, 0
            if end - start > len(self._window):
                raise self.error("changed while it was read")
        return self._window[first : first + end - start]
