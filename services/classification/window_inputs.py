"""Tokens of the windows over a long text, as the engine gets them, and its answers put together again."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.windows import Window, plan_windows
from services.common.errors import invalid_field
from services.common.text_models import TextModel
from services.common.tokenizer import Encoded

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class WindowInput:
    """Tokens of one window with the special tokens of a text of its own."""

    ids: list[int]
    type_ids: list[int]

    def __len__(self) -> int:
        return len(self.ids)


class WindowedText:
    """One text in windows that each fit the model; a text that fits is one window."""

    def __init__(self, encoded: Encoded, limit_tokens: int, overlap_tokens: int) -> None:
        """`overlap_tokens` was checked with `check_overlap`. `encoded` is one text, not a pair."""
        self.tokens = len(encoded)
        ids, type_ids, sequence_ids = encoded.ids, encoded.type_ids, encoded.sequence_ids
        head, tail = _special_ends(sequence_ids)
        content = slice(head, len(ids) - tail)
        # Of the text's own tokens, special ones left out: code points [start, end), and the word.
        self.offsets = encoded.offsets[content]
        self.word_ids = encoded.word_ids[content]
        self._head = head
        if self.tokens <= limit_tokens:
            whole = range(len(self.offsets))
            self.windows = [Window(whole, whole, whole)]
        else:
            self.windows = plan_windows(len(self.offsets), limit_tokens - head - tail, overlap_tokens)
        self.inputs = [
            WindowInput(_around(ids, window, head, tail), _around(type_ids, window, head, tail))
            for window in self.windows
        ]

    def owned_rows(self, rows: Sequence[FloatArray]) -> FloatArray:
        """A row for each token of the text, from the window in which it is farthest from an edge.

        `rows` has the engine's rows for the tokens of each window, special ones included.
        """
        parts = []
        for window, of_window in zip(self.windows, rows, strict=True):
            first = self._head - window.tokens.start
            parts.append(of_window[first + window.owned.start : first + window.owned.stop])
        return np.concatenate(parts)


def check_overlap(overlap_tokens: int, model: TextModel, field: str = "window_overlap_tokens") -> None:
    """Raises INVALID_FIELD for `field` unless windows of the model can overlap by so much."""
    limit = model.entry.context_length_tokens
    if not 0 <= overlap_tokens <= limit // 2:
        raise invalid_field(field, f"{overlap_tokens} is not from 0 to {limit // 2}")
    head, tail = _special_ends(model.tokenizer.encode([""])[0].sequence_ids)
    if overlap_tokens >= limit - head - tail:
        raise invalid_field(field, f"{overlap_tokens} leaves a window no tokens of its own")


def _special_ends(sequence_ids: Sequence[int | None]) -> tuple[int, int]:
    """Number of special tokens before and after the text's own. Of a text without tokens, all count as before it."""
    head = next((i for i, sequence in enumerate(sequence_ids) if sequence is not None), len(sequence_ids))
    tail = next((i for i, sequence in enumerate(reversed(sequence_ids)) if sequence is not None), 0)
    return head, tail


def _around(values: list[int], window: Window, head: int, tail: int) -> list[int]:
    content = values[head + window.tokens.start : head + window.tokens.stop]
    return values[:head] + content + values[len(values) - tail :]
