"""ONNX Runtime on a graph with its own fused operators, float32 or dynamic 8-bit."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems.adapters.encoder_batches import BatchEncoder, FloatArray, IntArray
from benchmarks.systems.protocol import About


class OnnxRuntimeEncoder(BatchEncoder):
    """The adapter. `options`: `graph`, a file; `weights`, in words; `checkpoint`."""

    def __init__(self) -> None:
        super().__init__()
        self._sessions: dict[int, Any] = {}  # By the number of callers: these share the threads.

    def load(self, options: dict[str, Any]) -> About:
        """A session with all threads, and one that computes in the thread that calls it."""
        import onnxruntime

        self.read_tokenizer(options["checkpoint"])
        for parallel in (1, int(options["threads"])):
            settings = onnxruntime.SessionOptions()
            settings.intra_op_num_threads = int(options["threads"]) // parallel
            self._sessions[parallel] = onnxruntime.InferenceSession(
                options["graph"], settings, providers=["CPUExecutionProvider"]
            )
        return About(
            {"onnxruntime": version("onnxruntime")},
            weights=options["weights"],
            weight_bytes=Path(options["graph"]).stat().st_size,
            kv_cache="",
            settings="graph fused by onnxruntime.transformers (attention, layer norms, GELU)",
        )

    def hidden(self, ids: IntArray, mask: IntArray, parallel: int) -> FloatArray:
        """One run."""
        session = self._sessions[parallel]
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        # The optimizer makes the graph's inputs int32 where it can.
        wanted = {one.name: np.int32 if one.type == "tensor(int32)" else np.int64 for one in session.get_inputs()}
        feeds = {name: inputs[name].astype(kind, copy=False) for name, kind in wanted.items()}
        hidden: FloatArray = session.run(None, feeds)[0]
        return hidden


def create() -> OnnxRuntimeEncoder:
    """The adapter."""
    return OnnxRuntimeEncoder()
