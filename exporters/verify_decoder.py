"""Proves that a decoder graph continues texts exactly as transformers does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.runtime import Logits, PagedDecoder

NEW_TOKENS = 64
_PROMPT_LENGTHS = (1, 5, 17, 40, 96)
# Prompt tokens that prompt i gets a step in the packed run: not all at once, so that sequences that still read their
# prompt share steps with sequences that already write.
_CHUNK_TOKENS = (1, 3, 6, 16, 33)


def prompts_from(text_ids: Sequence[int], context_length_tokens: int, new_tokens: int) -> list[list[int]]:
    """Five prompts of different lengths that leave room for `new_tokens`."""
    longest = max(1, min(context_length_tokens - new_tokens, len(text_ids) // 2))
    lengths = [min(length, longest - index % 2) or 1 for index, length in enumerate(_PROMPT_LENGTHS)]
    return [list(text_ids[7 * index : 7 * index + length]) for index, length in enumerate(lengths)]


def verify_decoder(model: Any, session: Any, shape: DecoderShape, text_ids: Sequence[int]) -> dict[str, Any]:
    """Greedy continuations alone and packed against `model` (transformers); the manifest's parity report."""
    new_tokens = min(NEW_TOKENS, shape.context_length_tokens // 2)
    prompts = prompts_from(text_ids, shape.context_length_tokens, new_tokens)
    packed, packed_logits = generate_packed(session, shape, prompts, new_tokens)
    worst = 0.0
    for index, prompt in enumerate(prompts):
        alone, alone_logits = generate_packed(session, shape, [prompt], new_tokens)
        if alone[0] != packed[index]:
            raise ExportError(f"parity: prompt {index} continues differently when it is packed with others")
        expected = _reference_logits(model, prompt, alone[0])
        _compare_greedy(index, alone[0], expected)
        worst = max(worst, *(float(np.abs(got - expected).max()) for got in (alone_logits[0], packed_logits[index])))
    return {
        "reference": "transformers, float32",
        "prompt_tokens": [len(prompt) for prompt in prompts],
        "new_tokens": new_tokens,
        "greedy_tokens_equal": True,
        "max_abs_logit_error": worst,
    }


def generate_packed(
    session: Any, shape: DecoderShape, prompts: Sequence[Sequence[int]], new_tokens: int
) -> tuple[list[list[int]], list[Logits]]:
    """Greedy tokens of each prompt and the logits that they were taken from, all prompts in one packed run."""
    length = max(len(prompt) for prompt in prompts) + new_tokens
    decoder = PagedDecoder(session, shape, len(prompts) * (-(-length // shape.kv_block_tokens)))
    sequences = [decoder.open(len(prompt) + new_tokens) for prompt in prompts]
    waiting = [list(prompt) for prompt in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    logits: list[list[Logits]] = [[] for _ in prompts]
    while live := [index for index in range(len(prompts)) if len(tokens[index]) < new_tokens]:
        work = []
        for index in live:
            count = _CHUNK_TOKENS[index % len(_CHUNK_TOKENS)] if len(prompts) > 1 else len(waiting[index])
            work.append((sequences[index], waiting[index][:count]))
            waiting[index] = waiting[index][count:]
        rows = decoder.step(work)
        for index, row in zip(live, rows, strict=True):
            if not waiting[index]:
                tokens[index].append(int(row.argmax()))
                logits[index].append(row.copy())
                waiting[index] = tokens[index][-1:]
    return tokens, [np.stack(rows) for rows in logits]


def _reference_logits(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> Logits:
    """Logits that transformers computes before each of `tokens`.

    If the argmax of row i is token i for all i, then by induction greedy decoding gives exactly `tokens`; one pass over
    the whole text shows it as well as a run token by token, and much faster.
    """
    import torch

    ids = torch.tensor([[*prompt, *tokens[:-1]]])
    with torch.no_grad():
        rows: Logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(tokens)).logits[0].numpy()
    return rows


def _compare_greedy(index: int, tokens: Sequence[int], expected: Logits) -> None:
    for position, (token, row) in enumerate(zip(tokens, expected, strict=True)):
        if int(row.argmax()) != token:
            raise ExportError(
                f"parity: prompt {index}, new token {position}: the graph says {token}, transformers says "
                f"{int(row.argmax())} (its logits differ by {float(row.max() - row[token]):.3g})"
            )
