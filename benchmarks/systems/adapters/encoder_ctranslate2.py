"""CTranslate2's encoder, float32 or with 8-bit weights and activations."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems.adapters.encoder_batches import BatchEncoder, FloatArray, IntArray
from benchmarks.systems.protocol import About


class Ct2Encoder(BatchEncoder):
    """The adapter. `options`: `folder`, the converted model; `compute_type`; `checkpoint`."""

    def __init__(self) -> None:
        super().__init__()
        self._encoders: dict[int, Any] = {}  # By the number of workers, which share the threads.

    def load(self, options: dict[str, Any]) -> About:
        """One encoder with all threads, and one with a worker a thread. Raises ValueError for a compute type that it
        would replace."""
        import ctranslate2

        self.read_tokenizer(options["checkpoint"])
        for workers in (1, int(options["threads"])):
            self._encoders[workers] = ctranslate2.Encoder(
                options["folder"],
                device="cpu",
                compute_type=options["compute_type"],
                inter_threads=workers,
                intra_threads=int(options["threads"]) // workers,
            )
        found = self._encoders[1].compute_type
        if found != options["compute_type"]:
            raise ValueError(f"{options['compute_type']} would be computed as {found}")
        whole = (Path(options["folder"]) / "model.bin").stat().st_size
        return About(
            {"ctranslate2": version("ctranslate2")},
            weights=f"{found}, 8-bit activations" if "int8" in found else "fp32",
            weight_bytes=whole // 4 if "int8" in found else whole,
            kv_cache="",
            settings="its own encoder; workers as batches at a time",
        )

    def hidden(self, ids: IntArray, mask: IntArray, parallel: int) -> FloatArray:
        """It pads by itself, so it is given rows of their own lengths."""
        rows = [row[:length].tolist() for row, length in zip(ids, mask.sum(1), strict=True)]
        output = self._encoders[parallel].forward_batch(rows)
        hidden: FloatArray = np.array(output.last_hidden_state)
        return hidden


def create() -> Ct2Encoder:
    """The adapter."""
    return Ct2Encoder()
