"""Proves that an encoder graph computes what transformers computes, for texts alone and packed together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.encoder_graph import EncoderShape, output_rows
from exporters.errors import ExportError
from exporters.options import EncoderTask
from exporters.runtime import Logits, run_encoder

MAX_ABS_ERROR = 1e-4
# Below this, quantised vectors no longer stand for the same texts.
MIN_QUANTISED_COSINE = 0.99
_TEXT_LENGTHS = (3, 8, 21, 60, 128, 200)


def texts_from(text_ids: Sequence[int], context_length_tokens: int) -> list[list[int]]:
    """Six texts of different lengths; the last one fills the context when that is short."""
    longest = min(context_length_tokens, len(text_ids) // 2)
    lengths = [min(length, longest) for length in _TEXT_LENGTHS]
    return [list(text_ids[11 * index : 11 * index + length]) for index, length in enumerate(lengths)]


def verify_encoder(
    model: Any, session: Any, shape: EncoderShape, text_ids: Sequence[int], task: EncoderTask
) -> dict[str, Any]:
    """Outputs alone and packed against `model` (transformers, eager attention); the manifest's parity report."""
    texts = texts_from(text_ids, shape.context_length_tokens)
    types = _token_types(texts) if shape.uses_token_type_ids else None
    expected = [_reference(model, text, types[i] if types else None, task) for i, text in enumerate(texts)]
    alone = [run_encoder(session, [text], [types[i]] if types else None) for i, text in enumerate(texts)]
    packed = run_encoder(session, texts, types)
    worst_alone = max(float(np.abs(got - want).max()) for got, want in zip(alone, expected, strict=True))
    worst_packed = float(np.abs(packed - np.concatenate(expected)).max())
    for how, worst in (("alone", worst_alone), ("packed", worst_packed)):
        if not worst <= MAX_ABS_ERROR:
            raise ExportError(
                f"parity: outputs of texts {how} differ from transformers' by {worst:.3g}, over {MAX_ABS_ERROR}"
            )
    return {
        "reference": "transformers, float32",
        "text_tokens": [len(text) for text in texts],
        "max_abs_error_alone": worst_alone,
        "max_abs_error_packed": worst_packed,
    }


def compare_quantised(
    reference: Any, quantised: Any, shape: EncoderShape, text_ids: Sequence[int], task: EncoderTask
) -> dict[str, Any]:
    """How far the quantised session is from the float one; raises when it is too far to be the same model."""
    texts = texts_from(text_ids, shape.context_length_tokens)
    types = _token_types(texts) if shape.uses_token_type_ids else None
    want, got = run_encoder(reference, texts, types), run_encoder(quantised, texts, types)
    report: dict[str, Any] = {"max_abs_error": float(np.abs(got - want).max())}
    if task == "classify_tokens":
        report["same_label"] = float((got.argmax(axis=1) == want.argmax(axis=1)).mean())
    if task == "embed":
        cosine = float(_cosines(_means(got, texts), _means(want, texts)).min())
        report["min_cosine"] = cosine
        if not cosine >= MIN_QUANTISED_COSINE:
            raise ExportError(
                f"quality: a quantised vector has cosine {cosine:.4f} to the float one: use --weights fp32"
            )
    return report


def _means(rows: Logits, texts: Sequence[Sequence[int]]) -> Logits:
    parts = np.split(rows, np.cumsum([len(text) for text in texts])[:-1])
    return np.stack([part.mean(axis=0) for part in parts])


def _cosines(first: Logits, second: Logits) -> Logits:
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    cosines: Logits = (first * second).sum(axis=1) / norms
    return cosines


def _token_types(texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Second halves of type 1, so that the input is seen to matter."""
    return [[0] * (len(text) - len(text) // 2) + [1] * (len(text) // 2) for text in texts]


def _reference(model: Any, text: Sequence[int], types: Sequence[int] | None, task: EncoderTask) -> Logits:
    import torch

    extra = {} if types is None else {"token_type_ids": torch.tensor([types])}
    with torch.no_grad():
        result = model(
            input_ids=torch.tensor([text]), attention_mask=torch.ones(1, len(text), dtype=torch.long), **extra
        )
    rows: Logits = output_rows(result, task).numpy()
    return rows
