"""Classify, free of gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.classification.encoder_client import LOGITS, EncoderAnswer, EncoderJob
from services.classification.scores import activate, best_first
from services.classification.text_batches import ITEM_BYTES, Item, TextBatches, Timings, check_items
from services.common.errors import NaiadError, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.tokenizer import Encoded


@dataclass(frozen=True)
class ClassifyOptions:
    """How texts are classified; None for what the checkpoint says, and for all labels."""

    top_k: int | None = None
    activation: str | None = None
    truncate: bool = False


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
            check_top_k(options.top_k)
            tokenized = await batches.tokenize(model, items, field, options.truncate)
            batches.check_response_size(len(items) * scored_bytes(entry.labels), field)
            texts = tokenized.good
            answer = await batches.run(entry, texts, EncoderJob(LOGITS, len(entry.labels)))
            scored = iter(_score(entry, texts, answer, options))
            return tokenized.fill(scored), tokenized.timings(answer)


def check_top_k(top_k: int | None) -> None:
    """Raises INVALID_FIELD for less than 1."""
    if top_k is not None and top_k < 1:
        raise invalid_field("top_k", f"{top_k} is less than 1")


def scored_bytes(labels: Sequence[str]) -> int:
    """Most bytes that the scores of one item take in a response."""
    return ITEM_BYTES + sum(ITEM_BYTES + len(label.encode()) for label in labels)


def _score(
    entry: ModelEntry, texts: Sequence[Encoded], answer: EncoderAnswer, options: ClassifyOptions
) -> list[Scored]:
    if not texts:
        return []
    scores = activate(np.concatenate(answer.rows), options.activation or entry.activation)
    return [
        Scored([(entry.labels[i], int(i), float(row[i])) for i in best_first(row, options.top_k)], len(text))
        for row, text in zip(scores, texts, strict=True)
    ]
