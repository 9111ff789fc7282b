"""Runs a decoder graph for CUDA without a GPU: numpy implementations of the operators that only ONNX Runtime has.

`PagedAttention` is written from the operator's documentation alone (github.com/microsoft/onnxruntime
docs/ContribOperators.md), position by position, so that it shares no mistake with naiad's own kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from exporters.decoder_graph import DecoderShape
from exporters.runtime import CachedSequence, Logits, Tokens

Array = npt.NDArray[Any]


class PagedAttention(OpRun):
    """query [T, heads*head]; caches [blocks, block, kv_heads, head]; position p is at table[p / block], p % block."""

    op_domain = "com.microsoft"

    def _run(  # noqa: PLR0917 - the operator's inputs
        self,
        query: Array,
        key: Array,
        value: Array,
        key_cache: Array,
        value_cache: Array,
        cumulative_sequence_length: Array,
        past_seqlens: Array,
        block_table: Array,
        **attributes: Any,
    ) -> tuple[Array, Array, Array]:
        key_cache, value_cache = key_cache.copy(), value_cache.copy()
        _, block_tokens, kv_heads, head_size = key_cache.shape
        heads = attributes["num_heads"]
        assert kv_heads == attributes["kv_num_heads"]
        output = np.zeros(query.shape, np.float32)
        for sequence, past in enumerate(past_seqlens):
            begin, end = cumulative_sequence_length[sequence : sequence + 2]
            for row in range(begin, end):
                position = int(past) + row - begin
                slots = [(block_table[sequence, p // block_tokens], p % block_tokens) for p in range(position + 1)]
                block, offset = slots[-1]
                assert block >= 0
                key_cache[block, offset] = key[row].reshape(kv_heads, head_size)
                value_cache[block, offset] = value[row].reshape(kv_heads, head_size)
                window = attributes["local_window_size"]
                seen = slots[-window:] if window > 0 else slots
                keys, values = (
                    np.stack([cache[slot] for slot in seen]).astype(np.float32) for cache in (key_cache, value_cache)
                )
                for head in range(heads):
                    group = head * kv_heads // heads
                    columns = slice(head * head_size, (head + 1) * head_size)
                    scores = keys[:, group] @ query[row, columns].astype(np.float32) * attributes["scale"]
                    if attributes["softcap"] > 0:
                        scores = attributes["softcap"] * np.tanh(scores / attributes["softcap"])
                    weights = np.exp(scores - scores.max())
                    output[row, columns] = weights @ values[:, group] / weights.sum()
        return output.astype(query.dtype), key_cache, value_cache


class SkipSimplifiedLayerNormalization(OpRun):
    """Sum of the first two inputs, and that sum after RMSNorm; statistics in float32."""

    op_domain = "com.microsoft"

    def _run(self, first: Array, skip: Array, gain: Array, epsilon: float) -> tuple[Array, ...]:
        total = first.astype(np.float32) + skip.astype(np.float32)
        scale = 1 / np.sqrt((total**2).mean(axis=-1, keepdims=True) + epsilon)
        normalised = (total * scale * gain.astype(np.float32)).astype(first.dtype)
        statistic = np.zeros(1, np.float32)
        return normalised, statistic, statistic, total.astype(first.dtype)


class ReferenceDecoder:
    """Steps a graph for CUDA as exporters.runtime.PagedDecoder steps one for the CPU."""

    def __init__(self, graph: Path, shape: DecoderShape, num_blocks: int) -> None:
        self._shape = shape
        model = onnx.load(graph)
        self._evaluator = ReferenceEvaluator(model, new_ops=[PagedAttention, SkipSimplifiedLayerNormalization])
        self._free = list(range(num_blocks))
        self._outputs = [output.name for output in model.graph.output]
        self._caches: dict[str, Array] = {
            value.name: np.zeros(
                (num_blocks, *(size.dim_value for size in value.type.tensor_type.shape.dim[1:])),
                onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type),
            )
            for value in model.graph.input
            if "_cache." in value.name
        }

    def open(self, length_tokens: int) -> CachedSequence:
        count = -(-length_tokens // self._shape.kv_block_tokens)
        return CachedSequence([self._free.pop() for _ in range(count)])

    def step(self, work: Sequence[tuple[CachedSequence, Tokens]], all_rows: bool = False) -> Logits:
        lengths = [len(tokens) for _, tokens in work]
        ends = np.cumsum([0, *lengths])
        table = np.full((len(work), max(len(sequence.blocks) for sequence, _ in work)), -1, np.int32)
        for row, (sequence, _) in enumerate(work):
            table[row, : len(sequence.blocks)] = sequence.blocks
        feeds = {
            "input_ids": np.array([token for _, tokens in work for token in tokens], np.int64),
            "position_ids": np.concatenate([np.arange(s.past, s.past + len(t), dtype=np.int64) for s, t in work]),
            "cu_seqlens": ends.astype(np.int32),
            "past_lens": np.array([sequence.past for sequence, _ in work], np.int32),
            "block_table": table,
            "logit_rows": np.arange(ends[-1], dtype=np.int64) if all_rows else ends[1:].astype(np.int64) - 1,
        }
        results = dict(zip(self._outputs, self._evaluator.run(None, {**feeds, **self._caches}), strict=True))
        self._caches = {name: results[name.replace("_cache.", "_cache_out.")] for name in self._caches}
        for sequence, tokens in work:
            sequence.past += len(tokens)
        logits: Logits = results["logits"]
        return logits
