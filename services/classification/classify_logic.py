"""Classify, free of gRPC."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from services.classification.encoder_client import LOGITS, EncoderJob
from services.classification.long_texts import Reading, mean_logits, read_in_windows, read_whole
from services.classification.pack_queue import EncoderAnswer
from services.classification.scores import best_first
from services.classification.text_batches import ITEM_BYTES, Item, TextBatches, Timings, check_items
from services.classification.window_inputs import check_overlap
from services.common.activation import activate
from services.common.errors import NaiadError, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.text_models import TextModel
from services.common.tokenizer import Encoded


@dataclass(frozen=True)
class ClassifyOptions:
    """How texts are classified; None for what the checkpoint says, and for all labels."""

    top_k: int | None = None
    activation: str | None = None
    truncate: bool = False
    window_overlap_tokens: int | None = None


@dataclass(frozen=True)
class Scored:
    """Labels of one text, best first, as (label, place in the logits, score)."""

    scores: list[tuple[str, int, float]]
    tokens: int


class ClassifyLogic:
    """Scores of labels for texts and pairs."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches

    async def classify(
        self, model_name: str, items: Sequence[Item], options: ClassifyOptions, field: str
    ) -> tuple[list[Scored | NaiadError], Timings]:
        """Scores of each item, or why it has none. `field` names the items in errors. Raises NaiadError."""
        batches = self._batches
        with batches.admission.request():
            model = await batches.models.get(model_name, Task.CLASSIFY)
            entry = model.entry
            check_items(items, field)
            check_top_k(options.top_k, "top_k")
            check_windows(model, options, "window_overlap_tokens")
            if options.window_overlap_tokens is not None and field == "pairs":
                raise invalid_field("window_overlap_tokens", "pairs cannot be read in windows")
            tokenized = await batches.tokenize(model, items, field, options.truncate, _longest(options))
            batches.check_response_size(len(items) * scored_bytes(entry.labels), field)
            readings = [_read(entry, text, options) for text in tokenized.good]
            runs = [run for reading in readings for run in reading.runs]
            answer = await batches.run(entry, runs, EncoderJob(LOGITS, len(entry.labels)))
            scored = iter(score_readings(entry, readings, answer, options))
            return tokenized.fill(scored), tokenized.timings(answer)


def check_windows(model: TextModel, options: ClassifyOptions, field: str) -> None:
    """Raises INVALID_FIELD for windows that share too much, or of a text that is to be cut."""
    if options.window_overlap_tokens is None:
        return
    check_overlap(options.window_overlap_tokens, model, field)
    if options.truncate:
        raise invalid_field(field, "windows read the whole text and truncate cuts it: ask for one of them")


def _longest(options: ClassifyOptions) -> int | None:
    return None if options.window_overlap_tokens is None else sys.maxsize


def _read(entry: ModelEntry, text: Encoded, options: ClassifyOptions) -> Reading:
    if options.window_overlap_tokens is None:
        return read_whole(text)
    return read_in_windows(text, entry.context_length_tokens, options.window_overlap_tokens)


def check_top_k(top_k: int | None, field: str) -> None:
    """Raises INVALID_FIELD for less than 1."""
    if top_k is not None and top_k < 1:
        raise invalid_field(field, f"{top_k} is less than 1")


def scored_bytes(labels: Sequence[str]) -> int:
    """Most bytes that the scores of one item take in a response."""
    return ITEM_BYTES + sum(ITEM_BYTES + len(label.encode()) for label in labels)


def score_readings(
    entry: ModelEntry, readings: Sequence[Reading], answer: EncoderAnswer, options: ClassifyOptions
) -> list[Scored]:
    """Scores of items from the logits of their runs."""
    if not readings:
        return []
    scores = activate(mean_logits(readings, answer.rows), options.activation or entry.activation)
    return [
        Scored([(entry.labels[i], int(i), float(row[i])) for i in best_first(row, options.top_k)], reading.tokens)
        for row, reading in zip(scores, readings, strict=True)
    ]
