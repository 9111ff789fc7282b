"""Runs exported graphs in ONNX Runtime with naiad's operators, the way the backend does, for verification."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError

Tokens = Sequence[int]
Logits = npt.NDArray[np.float32]

_OPS_LIBRARY_PLACES = ("build/core/libnaiad_ops.so", "build/ops/libnaiad_ops.so")


def find_ops_library(asked: Path | None) -> Path:
    """The operator library: the one asked for, else NAIAD_OPS_LIBRARY, else where the build leaves it."""
    named = asked or (Path(os.environ["NAIAD_OPS_LIBRARY"]) if os.environ.get("NAIAD_OPS_LIBRARY") else None)
    if named is not None:
        if not named.is_file():
            raise ExportError(f"the operator library {named} does not exist")
        return named.resolve()
    root = Path(__file__).resolve().parent.parent
    for place in _OPS_LIBRARY_PLACES:
        if (root / place).is_file():
            return root / place
    raise ExportError("libnaiad_ops.so is not built, and nothing can be verified without it: run `make core`")


def open_session(graph: Path, ops_library: Path, threads: int = 0) -> Any:
    """An inference session over `graph` with naiad's operators; 0 threads = one a core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(ops_library))
    return onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])


@dataclass
class CachedSequence:
    """A sequence in the paged cache: its blocks, and how many of its tokens are in them."""

    blocks: list[int]
    past: int = 0


class PagedDecoder:
    """Steps a decoder graph over packed tokens, with its own pool of blocks."""

    def __init__(self, session: Any, shape: DecoderShape, num_blocks: int) -> None:
        self._session, self._shape = session, shape
        self._free = list(range(num_blocks))
        self._caches = {
            f"{kind}_cache{{}}.{layer}": self._new_cache(num_blocks)
            for kind in ("key", "value")
            for layer in range(shape.num_layers)
        }

    def _new_cache(self, num_blocks: int) -> Any:
        import onnxruntime

        shape = self._shape
        size = (num_blocks, shape.num_kv_heads, shape.kv_block_tokens, shape.cache_row_elements)
        dtype = np.uint8 if shape.kv_cache_type == "int8" else np.float32
        return onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(size, dtype))

    def open(self, length_tokens: int) -> CachedSequence:
        """A sequence with room for `length_tokens`."""
        count = -(-length_tokens // self._shape.kv_block_tokens)
        # From the end, so that the blocks of a sequence are neither in order nor next to its neighbour's.
        return CachedSequence([self._free.pop() for _ in range(count)])

    def close(self, sequence: CachedSequence) -> None:
        """Gives the blocks back."""
        self._free[:0] = sequence.blocks

    def step(self, work: Sequence[tuple[CachedSequence, Tokens]], all_rows: bool = False) -> Logits:
        """Feeds each sequence its next tokens; logits of its last row, or of all rows, one after the other."""
        lengths = [len(tokens) for _, tokens in work]
        ends = np.cumsum([0, *lengths])
        columns = max(len(sequence.blocks) for sequence, _ in work)
        table = np.full((len(work), columns), -1, np.int32)
        for row, (sequence, _) in enumerate(work):
            table[row, : len(sequence.blocks)] = sequence.blocks
        binding = self._session.io_binding()
        inputs = {
            "input_ids": np.array([token for _, tokens in work for token in tokens], np.int64),
            "position_ids": np.concatenate([np.arange(s.past, s.past + len(t), dtype=np.int64) for s, t in work]),
            "cu_seqlens": ends.astype(np.int32),
            "past_lens": np.array([sequence.past for sequence, _ in work], np.int32),
            "block_table": table,
            "logit_rows": np.arange(ends[-1], dtype=np.int64) if all_rows else ends[1:].astype(np.int64) - 1,
        }
        for name, value in inputs.items():
            binding.bind_cpu_input(name, value)
        for name, cache in self._caches.items():
            binding.bind_ortvalue_input(name.format(""), cache)
            binding.bind_ortvalue_output(name.format("_out"), cache)
        binding.bind_output("logits", "cpu")
        self._session.run_with_iobinding(binding)
        for sequence, tokens in work:
            sequence.past += len(tokens)
        logits: Logits = binding.get_outputs()[-1].numpy()
        return logits


def run_encoder(session: Any, texts: Sequence[Tokens], token_types: Sequence[Tokens] | None) -> Logits:
    """Runs texts packed in one go: [T, hidden] or [S, labels]."""
    feeds = {
        "input_ids": np.array([token for text in texts for token in text], np.int64),
        "position_ids": np.concatenate([np.arange(len(text), dtype=np.int64) for text in texts]),
        "cu_seqlens": np.cumsum([0, *(len(text) for text in texts)]).astype(np.int32),
    }
    if token_types is not None:
        feeds["token_type_ids"] = np.array([kind for text in token_types for kind in text], np.int64)
    output: Logits = session.run(None, feeds)[0]
    return output
