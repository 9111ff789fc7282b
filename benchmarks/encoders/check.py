"""Whether a system's vectors are those of the checkpoint, and which of its settings is the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.encoders.loads import embed
from benchmarks.encoders.texts import SizedTexts
from benchmarks.loads import Ask
from benchmarks.systems.protocol import EmbedRequest

FloatArray = npt.NDArray[np.float32]
LEAST_COSINE = 0.9  # On average; 8 bits have cost up to 0.05 with poor recipes.


class EncoderCheck:
    """Tunes, then compares the vectors of the same texts with transformers' in float32, one text at a time there."""

    def __init__(self, work: SizedTexts, trial: SizedTexts, reference: Callable[[Sequence[str]], FloatArray]) -> None:
        self._texts = work.texts
        self._trial = trial
        self._reference = reference(work.texts)

    def answers(self, ask: Ask) -> dict[str, Any]:
        """Settings for each order and cosines. Raises ValueError if the vectors are another model's."""
        settings = {
            name: ask({"op": "tune", "texts": work.texts, "by_length": by_length})["chosen"]
            for name, by_length, work in (
                ("arrival_setting", False, self._trial),
                ("sorted_setting", True, self._trial.by_length()),
            )
        }
        found = embed(ask, EmbedRequest(self._texts, keep_vectors=True)).vectors
        similar = cosines(np.array(found, np.float32), self._reference)
        mean, least = float(similar.mean()), float(similar.min())
        if not mean >= LEAST_COSINE:  # Also for what is no number.
            raise ValueError(f"its vectors are not those of the checkpoint: mean cosine {mean:.3f}")
        return {**settings, "cosine_mean": mean, "cosine_least": least}

    def verdict(self, answers: dict[str, Any], _reference: object) -> dict[str, Any]:
        """As they are."""
        return answers


def cosines(vectors: FloatArray, others: FloatArray) -> FloatArray:
    """Of vectors at the same place: [vectors]. Raises ValueError if there are not as many, or not as wide."""
    if vectors.shape != others.shape:
        raise ValueError(f"vectors of shape {vectors.shape}, not {others.shape}")
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(others, axis=1)
    similar: FloatArray = (vectors * others).sum(1) / lengths
    return similar
