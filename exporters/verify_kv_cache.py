"""Measures what an 8-bit KV cache costs, and proves that nothing but rounding is different."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.quality import score_text
from exporters.verify_decoder import NEW_TOKENS, generate_packed, prompts_from

# Beyond this the rounding has hit something that the model cannot do without.
MAX_PERPLEXITY_RATIO = 1.01


def verify_int8_cache(
    float_decoder: tuple[Any, DecoderShape], int8_decoder: tuple[Any, DecoderShape], text_ids: Sequence[int]
) -> dict[str, Any]:
    """Compares two (session, shape) of the same weights; the manifest's `quality.kv_cache`. Raises ExportError.

    `greedy_token_agreement` is the share of the text's positions whose most probable next token is the same.
    """
    _refuse_dependence_on_neighbours(*int8_decoder, text_ids)
    reference, rounded = (score_text(session, shape, text_ids) for session, shape in (float_decoder, int8_decoder))
    if not rounded.perplexity <= reference.perplexity * MAX_PERPLEXITY_RATIO:
        raise ExportError(
            f"quality: an 8-bit KV cache raises the perplexity from {reference.perplexity:.2f} to "
            f"{rounded.perplexity:.2f}: use --kv-cache float"
        )
    return {
        "type": "int8",
        "perplexity_float": reference.perplexity,
        "perplexity_int8": rounded.perplexity,
        "perplexity_increase": rounded.perplexity / reference.perplexity - 1.0,
        "greedy_token_agreement": float(np.mean(reference.greedy_ids == rounded.greedy_ids)),
    }


def _refuse_dependence_on_neighbours(session: Any, shape: DecoderShape, text_ids: Sequence[int]) -> None:
    """A row is rounded by itself, so a text must go on the same way alone and packed, however its prompt is cut."""
    new_tokens = min(NEW_TOKENS, shape.context_length_tokens // 2)
    prompts = prompts_from(text_ids, shape.context_length_tokens, new_tokens)
    packed, _ = generate_packed(session, shape, prompts, new_tokens)
    for index, prompt in enumerate(prompts):
        alone, _ = generate_packed(session, shape, [prompt], new_tokens)
        if alone[0] != packed[index]:
            raise ExportError(
                f"parity: with an 8-bit KV cache, prompt {index} continues differently when it is packed with others"
            )
