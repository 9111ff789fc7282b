"""Choices made by the bytes of a fuzzer, so that what it changes in them changes the test in an orderly way.

The same as atheris' FuzzedDataProvider in kind, but without atheris, so that a corpus can be replayed anywhere.
"""

import struct
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Takes choices from the front of `data`; when it is used up, each is the first there is."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, count: int) -> bytes:
        """The next bytes, fewer at the end."""
        taken = self._data[self._place : self._place + count]
        self._place += len(taken)
        return taken

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._data))

    def number(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        size = max(1, ((high - low).bit_length() + 7) // 8)
        return low + int.from_bytes(self.take(size), "little") % (high - low + 1)

    def one_of(self, values: Sequence[T]) -> T:
        """One of the values."""
        return values[self.number(0, len(values) - 1)]

    def flag(self) -> bool:
        """True or False."""
        return bool(self.number(0, 1))

    def real(self) -> float:
        """Any float, not a number and infinity too."""
        value: float = struct.unpack("<d", self.take(8).ljust(8, b"\0"))[0]
        return value

    def text(self, most_bytes: int) -> str:
        """A text of any characters but lone surrogates, which UTF-8 does not have."""
        return self.take(self.number(0, most_bytes)).decode("utf-8", "replace")
