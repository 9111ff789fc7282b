"""Compares a decoder graph for CUDA with the verified float32 graph that it was made from.

On a machine without ONNX Runtime's CUDA provider the comparison cannot run, and the report says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.options import Precision
from exporters.runtime import CachedSequence, Logits, PagedDecoder, Tokens

CUDA_PROVIDER = "CUDAExecutionProvider"
NOT_RUN = "not run: ONNX Runtime has no CUDA provider here"
# Largest difference of a logit, relative to the distance between the row's largest and smallest one.
TOLERANCE: dict[Precision, float] = {"fp16": 0.02, "bf16": 0.1}

_PROMPT_TOKENS = (96, 1, 40, 17, 5)
_CHUNK_TOKENS = (33, 1, 16, 6, 3)
# Steps of one token a sequence at the end: kernels for these are not those for prompts.
_DECODE_STEPS = 8


class Decoder(Protocol):
    """What steps packed sequences through a graph: exporters.runtime.PagedDecoder, or a double."""

    def open(self, length_tokens: int) -> CachedSequence: ...

    def step(self, work: Sequence[tuple[CachedSequence, Tokens]], all_rows: bool = False) -> Logits: ...


class CudaDecoder(PagedDecoder):
    """Steps a graph for CUDA, with the cache in the GPU's memory. Positions that were not written are never read."""

    def __init__(self, session: Any, shape: DecoderShape, num_blocks: int, precision: Precision) -> None:
        import onnx

        types = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
        self._element_type = int(types[precision])
        super().__init__(session, shape, num_blocks)

    def _new_cache(self, num_blocks: int) -> Any:
        import onnxruntime

        shape = self._shape
        size = [num_blocks, shape.kv_block_tokens, shape.num_kv_heads, shape.head_size]
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(size, self._element_type, "cuda", 0)


def cuda_available() -> bool:
    """Whether the installed onnxruntime has a CUDA provider."""
    import onnxruntime

    return CUDA_PROVIDER in onnxruntime.get_available_providers()


def verify_cuda(
    graph: Path, shape: DecoderShape, precision: Precision, reference: PagedDecoder, text_ids: Sequence[int]
) -> dict[str, Any]:
    """The part of the manifest's parity report that is about the CUDA graph.

    reference: over the float32 graph, with room for `blocks_needed` of its own shape.
    """
    if not cuda_available():
        return {"cuda_graph": NOT_RUN}
    import onnxruntime

    session = onnxruntime.InferenceSession(str(graph), providers=[CUDA_PROVIDER, "CPUExecutionProvider"])
    if CUDA_PROVIDER not in session.get_providers():
        return {"cuda_graph": "not run: ONNX Runtime's CUDA provider did not start"}
    report = compare(reference, CudaDecoder(session, shape, blocks_needed(shape), precision), shape, text_ids)
    check(report, precision)
    return {"cuda_graph": "within tolerance of the float32 graph", **report}


def blocks_needed(shape: DecoderShape) -> int:
    """Blocks that `compare` opens."""
    return sum(-(-length // shape.kv_block_tokens) for length in _lengths(shape))


def _lengths(shape: DecoderShape) -> list[int]:
    longest = shape.context_length_tokens - _DECODE_STEPS
    return [max(1, min(prompt, longest)) + _DECODE_STEPS for prompt in _PROMPT_TOKENS]


def compare(
    reference: Decoder, candidate: Decoder, shape: DecoderShape, text_ids: Sequence[int]
) -> dict[str, float | int]:
    """Feeds both the same packed steps, prompts in pieces and then token by token, and compares every row's logits."""
    lengths = _lengths(shape)
    texts = [[text_ids[(7 * index + at) % len(text_ids)] for at in range(n)] for index, n in enumerate(lengths)]
    pairs = [(reference.open(length), candidate.open(length)) for length in lengths]
    rows = agreed = 0
    worst = worst_relative = 0.0
    for counts in _steps(lengths):
        pieces = [(texts[i][pairs[i][0].past : pairs[i][0].past + n], *pairs[i]) for i, n in counts]
        expected = reference.step([(ours, tokens) for tokens, ours, _ in pieces], all_rows=True)
        got = candidate.step([(theirs, tokens) for tokens, _, theirs in pieces], all_rows=True)
        error = np.abs(got - expected).max(axis=1)
        worst = max(worst, float(error.max()))
        worst_relative = max(worst_relative, float((error / np.ptp(expected, axis=1)).max()))
        agreed += int((got.argmax(axis=1) == expected.argmax(axis=1)).sum())
        rows += len(expected)
    return {
        "cuda_rows": rows,
        "cuda_max_abs_logit_error": worst,
        "cuda_max_relative_error": worst_relative,
        "cuda_same_greedy_token": agreed / rows,
    }


def _steps(lengths: Sequence[int]) -> list[list[tuple[int, int]]]:
    """(sequence, tokens) of each step: prompts in chunks of their own sizes, then all sequences token by token."""
    waiting = [length - _DECODE_STEPS for length in lengths]
    steps = []
    while any(waiting):
        step = [(i, min(_CHUNK_TOKENS[i], left)) for i, left in enumerate(waiting) if left]
        for i, count in step:
            waiting[i] -= count
        steps.append(step)
    return steps + [[(i, 1) for i in range(len(lengths))]] * _DECODE_STEPS


def check(report: dict[str, float | int], precision: Precision) -> None:
    """Raises ExportError when the logits are further apart than the precision explains."""
    error = report["cuda_max_relative_error"]
    if not error <= TOLERANCE[precision]:
        raise ExportError(
            f"parity: logits of the {precision} graph on cuda are off by {error:.3g} of their range; "
            f"{TOLERANCE[precision]} is the most"
        )
