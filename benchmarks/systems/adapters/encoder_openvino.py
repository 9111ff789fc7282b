"""OpenVINO on the exported ONNX graph, in float32 or bfloat16."""

from __future__ import annotations

import threading
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.systems.adapters.encoder_batches import BatchEncoder, FloatArray, IntArray
from benchmarks.systems.protocol import About


class OpenVinoEncoder(BatchEncoder):
    """The adapter. `options`: `graph`, a file; `precision`, "f32" or "bf16"; `checkpoint`."""

    def __init__(self) -> None:
        super().__init__()
        self._models: dict[int, Any] = {}  # By the number of streams.
        self._own = threading.local()  # Requests of each thread.

    def load(self, options: dict[str, Any]) -> About:
        """Compiles the graph for one stream with all threads, and for a stream a thread. Raises ValueError if the
        precision is not what was asked for."""
        import openvino

        self.read_tokenizer(options["checkpoint"])
        core = openvino.Core()
        graph = core.read_model(options["graph"])
        for streams in (1, int(options["threads"])):
            properties = {
                "INFERENCE_PRECISION_HINT": options["precision"],
                "INFERENCE_NUM_THREADS": int(options["threads"]),
                "NUM_STREAMS": streams,
            }
            self._models[streams] = core.compile_model(graph, "CPU", properties)
            found = self._models[streams].get_property("INFERENCE_PRECISION_HINT").to_string()
            if found != options["precision"]:
                raise ValueError(f"this CPU has no {options['precision']}: OpenVINO would compute in {found}")
        return About(
            {"openvino": version("openvino")},
            weights=f"{options['precision']} (inference precision hint)",
            weight_bytes=Path(options["graph"]).stat().st_size // (2 if options["precision"] == "bf16" else 1),
            kv_cache="",
            settings="ONNX graph as exported; streams as batches at a time",
        )

    def hidden(self, ids: IntArray, mask: IntArray, parallel: int) -> FloatArray:
        """One inference on the calling thread's own request."""
        requests = self._own.__dict__.setdefault("requests", {})
        if parallel not in requests:
            requests[parallel] = self._models[parallel].create_infer_request()
        outputs = requests[parallel].infer(
            {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}, share_inputs=True
        )
        hidden: FloatArray = outputs[0]
        return hidden


def create() -> OpenVinoEncoder:
    """The adapter."""
    return OpenVinoEncoder()
