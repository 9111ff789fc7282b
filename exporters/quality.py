"""Perplexity of a decoder graph on a fixed text, and its speed: what quantisation costs and what it brings."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.runtime import PagedDecoder

# A quantised graph whose perplexity grows by more than this is broken rather than coarse.
MAX_PERPLEXITY_RATIO = {"int8": 1.05, "int4": 1.25}
WINDOW_TOKENS = 512
_CHUNK_TOKENS = 128


def quality_text() -> str:
    """The fixed text, about 1,500 words of English prose."""
    return (Path(__file__).parent / "data" / "quality_text.txt").read_text(encoding="utf-8")


def entry_text_ids(entry: Path, text: str) -> list[int]:
    """The text in tokens of the entry's tokenizer."""
    from tokenizers import Tokenizer

    ids: list[int] = Tokenizer.from_file(str(entry / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    return ids


@dataclass(frozen=True)
class TextScore:
    """perplexity: exp of the mean negative log-likelihood of each token but the first of each window.

    greedy_ids: the most probable token in the place of each of them. window_losses: the mean of each window, nats.
    """

    perplexity: float
    greedy_ids: npt.NDArray[np.int64]
    window_losses: npt.NDArray[np.float64]


def perplexity(session: Any, shape: DecoderShape, text_ids: Sequence[int]) -> float:
    """The perplexity of score_text."""
    return score_text(session, shape, text_ids).perplexity


def score_text(
    session: Any, shape: DecoderShape, text_ids: Sequence[int], window_tokens: int = WINDOW_TOKENS
) -> TextScore:
    """Reads the text in windows, each as a sequence of its own."""
    window = min(window_tokens, shape.context_length_tokens)
    decoder = PagedDecoder(session, shape, -(-window // shape.kv_block_tokens))
    losses: list[float] = []
    lengths: list[int] = []
    greedy: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(text_ids) - 1, window):
        ids = text_ids[start : start + window]
        sequence = decoder.open(len(ids))
        loss = 0.0
        for at in range(0, len(ids) - 1, _CHUNK_TOKENS):
            chunk = ids[at : min(at + _CHUNK_TOKENS, len(ids) - 1)]
            logits = decoder.step([(sequence, chunk)], all_rows=True).astype(np.float64)
            targets = np.array(ids[at + 1 : at + 1 + len(chunk)])
            peak = logits.max(axis=1)
            normaliser = peak + np.log(np.exp(logits - peak[:, None]).sum(axis=1))
            loss += float((normaliser - logits[np.arange(len(chunk)), targets]).sum())
            greedy.append(logits.argmax(axis=1))
        decoder.close(sequence)
        losses.append(loss / (len(ids) - 1))
        lengths.append(len(ids) - 1)
    greedy_ids = np.concatenate(greedy) if greedy else np.empty(0, np.int64)
    mean = float(np.average(losses, weights=lengths)) if losses else 0.0
    return TextScore(float(np.exp(mean)), greedy_ids, np.array(losses))


def check_perplexity(weights: str, quantised: float, reference: float) -> None:
    """Raises when the quantised graph is no longer the same model."""
    if not quantised <= reference * MAX_PERPLEXITY_RATIO[weights]:
        raise ExportError(
            f"quality: {weights} weights raise the perplexity from {reference:.2f} to {quantised:.2f}: "
            "use --weights fp32"
        )


def tokens_per_second(session: Any, shape: DecoderShape, sequences: int, step_tokens: int, seconds: float) -> float:
    """Packed tokens a second of steps over `sequences` sequences that get `step_tokens` each, after 64 of context."""
    decoder = PagedDecoder(session, shape, sequences * (-(-(64 + step_tokens) // shape.kv_block_tokens)))
    opened = [decoder.open(64 + step_tokens) for _ in range(sequences)]
    decoder.step([(sequence, [1] * 64) for sequence in opened])
    done, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        for sequence in opened:
            sequence.past = 64
        decoder.step([(sequence, [1] * step_tokens) for sequence in opened])
        done += sequences * step_tokens
    return done / (time.perf_counter() - begin)
