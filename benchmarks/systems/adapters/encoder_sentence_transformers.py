"""sentence-transformers on torch, in float32, with its own batches."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.systems.adapters.encoder_batches import FloatArray, Setting, TextEncoder, neighbours
from benchmarks.systems.protocol import About


class SentenceTransformersEncoder(TextEncoder):
    """The adapter. torch has one pool of threads, so batches run one after the other."""

    settings = (Setting(1), Setting(4), Setting(8), Setting(16), Setting(32))

    def __init__(self) -> None:
        super().__init__()
        self._model: Any = None

    def load(self, options: dict[str, Any]) -> About:
        """Reads the checkpoint."""
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(int(options["threads"]))
        self._model = SentenceTransformer(options["checkpoint"], device="cpu", local_files_only=True)
        return About(
            {name: version(name) for name in ("sentence-transformers", "torch", "transformers")},
            weights="fp32",
            weight_bytes=sum(weights.nbytes for weights in self._model.parameters()),
            kv_cache="",
            settings="torch",
        )

    def together(self, texts: Sequence[str], setting: Setting) -> FloatArray:
        """`encode` orders what it is given by length, so in arrival order it is given one batch at a time."""
        return np.concatenate([self._encode(batch) for batch in neighbours(texts, setting.batch)])

    def alone(self, text: str) -> FloatArray:
        """A call of its own."""
        return self._encode([text])

    def _encode(self, texts: Sequence[str]) -> FloatArray:
        vectors: FloatArray = self._model.encode(
            list(texts), batch_size=len(texts), show_progress_bar=False, normalize_embeddings=True
        )
        return vectors


def create() -> SentenceTransformersEncoder:
    """The adapter."""
    return SentenceTransformersEncoder()
