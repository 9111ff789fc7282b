"""Texts as the engine reads them: whole, or in windows whose logits are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.encoder_client import EncoderInput
from services.classification.windows import plan_windows
from services.common.tokenizer import Encoded

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TokenRun:
    """Tokens that the engine reads together."""

    ids: Sequence[int]
    type_ids: Sequence[int]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Reading:
    """How one item is read: in `runs`, whose logits count as much as `weights` says. `tokens` is the whole item's."""

    runs: Sequence[EncoderInput]
    weights: Sequence[int]
    tokens: int

    @property
    def run_tokens(self) -> int:
        """Tokens of all runs, which is what computing them costs."""
        return sum(map(len, self.runs))


def read_whole(encoded: Encoded) -> Reading:
    """One run."""
    return Reading((encoded,), (1,), len(encoded))


def read_in_windows(encoded: Encoded, limit_tokens: int, overlap_tokens: int) -> Reading:
    """Runs of at most `limit_tokens`, special tokens in each. A run weighs as much as it has tokens of its own.

    Its own are those that no run before had. `overlap_tokens` is lowered where it would leave no room for any.
    """
    if len(encoded) <= limit_tokens:
        return read_whole(encoded)
    ids, type_ids, special = encoded.ids, encoded.type_ids, encoded.special_mask
    first = next((place for place, is_special in enumerate(special) if not is_special), len(ids))
    last = next((place for place in range(len(ids), first, -1) if not special[place - 1]), first)
    room = max(1, limit_tokens - first - (len(ids) - last))
    windows = plan_windows(last - first, room, min(overlap_tokens, room - 1))

    def cut(values: Sequence[int], tokens: range) -> list[int]:
        return [*values[:first], *values[first + tokens.start : first + tokens.stop], *values[last:]]

    runs = [TokenRun(cut(ids, window.tokens), cut(type_ids, window.tokens)) for window in windows]
    return Reading(runs, [len(window.new) for window in windows], len(ids))


def mean_logits(readings: Sequence[Reading], rows: Sequence[FloatArray]) -> FloatArray:
    """Logits of each item, shape [items, labels], from those of all runs, each [1, labels]."""
    logits = np.empty((len(readings), rows[0].shape[-1] if rows else 0), np.float32)
    start = 0
    for item, reading in enumerate(readings):
        parts = rows[start : start + len(reading.runs)]
        start += len(parts)
        # One run stays as it is, to the bit.
        logits[item] = parts[0][0] if len(parts) == 1 else np.average(parts, axis=0, weights=reading.weights)[0]
    return logits
