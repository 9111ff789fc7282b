"""Texts as a classifier reads them: whole, or in windows whose logits are averaged."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.pack_queue import EncoderInput
from services.classification.window_inputs import WindowedText
from services.common.tokenizer import Encoded

FloatArray = npt.NDArray[np.float32]


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
    """Runs of at most `limit_tokens`, each of which counts as much as it has tokens that no run before had."""
    if len(encoded) <= limit_tokens:
        return read_whole(encoded)
    text = WindowedText(encoded, limit_tokens, overlap_tokens)
    return Reading(text.inputs, [len(window.new) for window in text.windows], text.tokens)


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
