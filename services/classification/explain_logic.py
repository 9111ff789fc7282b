"""Explain, free of gRPC: which words of a text moved the score of a label."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.masked_text import MaskedScores, MaskedText
from services.classification.shapley import BoolArray, FloatArray, Shares, all_pairs, fit_pairs, sample_pairs
from services.classification.text_batches import TextBatches, Timings, check_length
from services.classification.words import Word, split_words, words_of_tokens
from services.common.bounds import range_of
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.text_models import TextModel
from services.common.tokenizer import Encoded

MAX_WORDS = 1_000
DEFAULT_SAMPLES = 512
SAMPLES = range_of("ExplainRequest", "max_samples")
# Runs that the words' shares are tested on, and not made from.
_MAX_HELD_OUT = 64
_HELD_OUT_OCCLUSION = 32
# Scores that differ by less than rounding do.
_LEAST_VARIANCE = 1e-12
SHAPLEY, OCCLUSION = "shapley", "occlusion"


@dataclass(frozen=True)
class ExplainOptions:
    """What is explained, and how; `label` None for the one with the best score."""

    label: str | None = None
    method: str = SHAPLEY
    max_samples: int = DEFAULT_SAMPLES
    seed: int = 0
    truncate: bool = False


@dataclass(frozen=True)
class Explanation:
    """Shares of the words, in order, and how well they foretell the scores of other runs."""

    label: str
    score: float
    baseline_score: float
    words: Sequence[Word]
    shares: Shares
    fidelity: float
    samples: int


class ExplainLogic:
    """Explains scores of classifiers."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches

    async def explain(self, model_name: str, text: str, options: ExplainOptions) -> tuple[Explanation, Timings]:
        """The explanation. Raises NaiadError."""
        with self._batches.admission.request():
            model = await self._batches.models.get(model_name, Task.CLASSIFY)
            entry = model.entry
            _check(entry, options)
            begun_s = time.perf_counter()
            encoded, words = await self._split(model, text, options.truncate)
            masked = MaskedText(encoded, words, model.tokenizer.mask_id)
            if not masked.can_be_empty:
                raise NaiadError(Reason.WRONG_TASK, f"model: {entry.name!r} cannot read a text without words")
            tokenization_us = round((time.perf_counter() - begun_s) * 1e6)
            # In a thread: drawing thousands of sets of hundreds of words takes a part of a second.
            plan, sets, places = await asyncio.to_thread(_plan_runs, len(words), options)
            scores = MaskedScores(self._batches.client, entry, masked)
            with self._batches.admission.cost(len(sets) * masked.tokens):
                found = (await scores.of(sets))[places]
            index = entry.labels.index(options.label) if options.label is not None else int(found[0].argmax())
            shares, fidelity = await asyncio.to_thread(_shares, plan, found[:, index])
            whole, nothing = found[:2, index]
            explanation = Explanation(
                entry.labels[index], float(whole), float(nothing), words, shares, fidelity, len(sets)
            )
            return explanation, Timings(tokenization_us, scores.queue_us, scores.compute_us)

    async def _split(self, model: TextModel, text: str, truncate: bool) -> tuple[Encoded, list[Word]]:
        """Tokens of the text and the words that they are of."""
        limit = model.entry.context_length_tokens

        def work() -> tuple[Encoded, list[Word]]:
            (encoded,) = model.tokenizer.encode([text], max_length=limit if truncate else None)
            # Words that were cut off are none of the model's business, nor of the limit's.
            offsets = encoded.offsets
            seen = text[: max((end for _, end in offsets), default=0)]
            return encoded, words_of_tokens(split_words(seen, MAX_WORDS), offsets)

        encoded, words = await self._batches.models.run(len(text), work)
        self._batches.models.count_tokens(model, len(encoded))
        checked = check_length(encoded, limit, "text")
        if isinstance(checked, NaiadError):
            raise checked
        if len(words) > MAX_WORDS:
            raise invalid_field("text", f"more than {MAX_WORDS} words")
        return checked, words


@dataclass(frozen=True)
class _Plan:
    """Sets of words, shape [sets, words], whose scores are wanted: those that are fitted, and those for the test.

    With `paired`, the complements of the fitted sets are wanted, too. `exact`: the pairs are all that there are.
    """

    fitted: BoolArray
    weights: FloatArray
    held_out: BoolArray
    paired: bool
    exact: bool

    def all_sets(self) -> BoolArray:
        """The whole text, the text without any word, and the rest."""
        words = self.fitted.shape[1]
        complements = ~self.fitted if self.paired else self.fitted[:0]
        ends = np.array([np.ones(words, bool), np.zeros(words, bool)])
        return np.concatenate([ends, self.fitted, complements, self.held_out])


def _check(entry: ModelEntry, options: ExplainOptions) -> None:
    if options.label is not None and options.label not in entry.labels:
        raise invalid_field("label", f"is none of the labels of {entry.name}")
    if options.method == SHAPLEY and not SAMPLES.allows(options.max_samples):
        raise invalid_field("max_samples", f"{options.max_samples} is not {SAMPLES}")


def _plan_runs(words: int, options: ExplainOptions) -> tuple[_Plan, BoolArray, npt.NDArray[np.intp]]:
    """The plan, its different sets, and which of them each of the plan's is."""
    plan = _plan(words, options)
    sets, places = np.unique(plan.all_sets(), axis=0, return_inverse=True)
    return plan, sets, places.reshape(-1)


def _plan(words: int, options: ExplainOptions) -> _Plan:
    chance = np.random.Generator(np.random.PCG64(options.seed))
    if words < 2:
        return _Plan(np.zeros((0, words), bool), np.zeros(0), np.zeros((0, words), bool), False, True)
    if options.method == OCCLUSION:
        held_out = _held_out(words, _HELD_OUT_OCCLUSION, ~np.eye(words, dtype=bool), chance)
        return _Plan(~np.eye(words, dtype=bool), np.ones(words), held_out, False, True)
    if 2 ** min(words, 20) <= options.max_samples:
        fitted, weights = all_pairs(words)
        return _Plan(fitted, weights, np.concatenate([fitted, ~fitted]), True, True)
    held_out_count = min(_MAX_HELD_OUT, options.max_samples // 4)
    fitted, weights = sample_pairs(words, (options.max_samples - 2 - held_out_count) // 2, chance)
    held_out = _held_out(words, held_out_count, np.concatenate([fitted, ~fitted]), chance)
    return _Plan(fitted, weights, held_out, True, False)


def _held_out(words: int, count: int, seen: BoolArray, chance: np.random.Generator) -> BoolArray:
    """Random sets of random sizes that are none of `seen`, as far as there are any."""
    keys = {row.tobytes() for row in seen}
    found: list[BoolArray] = []
    for size in chance.integers(1, words, 4 * count):
        kept = np.zeros(words, bool)
        kept[chance.permutation(words)[:size]] = True
        if kept.tobytes() not in keys and len(found) < count:
            keys.add(kept.tobytes())
            found.append(kept)
    return np.array(found, bool).reshape(-1, words)


def _shares(plan: _Plan, scores: FloatArray) -> tuple[Shares, float]:
    """What each word brings, and the share of the variance of the held-out scores that this explains."""
    words, fitted = plan.fitted.shape[1], len(plan.fitted)
    whole, total = scores[0], scores[0] - scores[1]
    if words < 2:
        return Shares(np.full(words, total), np.zeros(words)), 1.0
    if plan.paired:
        differences = scores[2 : 2 + fitted] - scores[2 + fitted : 2 + 2 * fitted]
        shares = fit_pairs(plan.fitted, plan.weights, differences, total, plan.exact)
    else:
        shares = Shares(whole - scores[2 : 2 + fitted], np.zeros(words))
    if not len(plan.held_out):
        return shares, 1.0  # every way of leaving words out was made use of
    held_out = scores[len(scores) - len(plan.held_out) :]
    foretold = whole - ~plan.held_out @ shares.values
    variance = float(((held_out - held_out.mean()) ** 2).sum())
    if variance < _LEAST_VARIANCE * len(held_out):
        return shares, 1.0  # nothing moves the score, and that is what the shares say
    return shares, 1.0 - float(((held_out - foretold) ** 2).sum()) / variance
