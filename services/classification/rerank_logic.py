"""Rerank, free of gRPC."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.classification.classify_logic import check_top_k
from services.classification.encoder_client import EMBEDDINGS, EncoderJob
from services.classification.pack_queue import EncoderAnswer
from services.classification.pair_inputs import PairInput, SharedTexts, run_pairs, tokenize_shared
from services.classification.scores import best_first
from services.classification.text_batches import ITEM_BYTES, TextBatches, Timings, check_items
from services.classification.vectors import cosines
from services.common.activation import activate
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.text_models import TextModel

RELEVANT = "relevant"


@dataclass(frozen=True)
class RerankOptions:
    """`top_k` None gives all documents. `return_documents` matters for the size of the response only."""

    top_k: int | None = None
    return_documents: bool = False
    truncate: bool = False


@dataclass(frozen=True)
class Reranked:
    """Documents best first as (place in the request, score), those without a score, and how scores came about."""

    ranked: list[tuple[int, float]]
    errors: list[tuple[int, NaiadError]]
    cross_encoder: bool
    timings: Timings


@dataclass(frozen=True)
class _Scores:
    """A score for each document, or why it has none."""

    outcomes: list[float | NaiadError]
    timings: Timings


class RerankLogic:
    """Documents in the order of how well they answer a query."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches

    async def rerank(self, model_name: str, query: str, documents: Sequence[str], options: RerankOptions) -> Reranked:
        """The documents in their new order. Raises NaiadError, also for a query that cannot be read."""
        batches = self._batches
        with batches.admission.request():
            model = await batches.models.get(model_name, Task.CLASSIFY, Task.EMBED)
            cross_encoder = model.entry.task is Task.CLASSIFY
            column = _relevance_column(model.entry) if cross_encoder else 0
            check_items(documents, "documents")
            check_top_k(options.top_k, "top_k")
            batches.check_response_size(_response_bytes(documents, options), "documents")
            if cross_encoder:
                scores = await self._read_together(model, query, documents, options.truncate, column)
            else:
                scores = await self._compare_vectors(model, query, documents, options.truncate)
        found = [(i, outcome) for i, outcome in enumerate(scores.outcomes) if not isinstance(outcome, NaiadError)]
        order = best_first(np.array([score for _, score in found], np.float32), options.top_k)
        errors = [(i, outcome) for i, outcome in enumerate(scores.outcomes) if isinstance(outcome, NaiadError)]
        return Reranked([found[place] for place in order], errors, cross_encoder, scores.timings)

    async def _read_together(
        self, model: TextModel, query: str, documents: Sequence[str], truncate: bool, column: int
    ) -> _Scores:
        shared = SharedTexts([query], "the query", "documents", _query_too_long)
        tokenized = await tokenize_shared(self._batches, model, shared, documents, truncate)
        (query_ids,) = tokenized.shared
        pairs = [PairInput(tokenized.template, query_ids, ids) for ids in tokenized.good]
        answer = await run_pairs(self._batches, model, pairs, "documents")
        scores = iter(_relevance(model.entry, answer, column))
        return _Scores(
            [outcome if isinstance(outcome, NaiadError) else next(scores) for outcome in tokenized.outcomes],
            tokenized.timings(answer),
        )

    async def _compare_vectors(self, model: TextModel, query: str, documents: Sequence[str], truncate: bool) -> _Scores:
        batches, entry = self._batches, model.entry
        begun_s = time.perf_counter()
        query_tokens = await batches.tokenize_one(model, query, "query", truncate)
        query_us = round((time.perf_counter() - begun_s) * 1e6)
        tokenized = await batches.tokenize(model, documents, "documents", truncate)
        texts = [query_tokens, *tokenized.good]
        answer = await batches.run(entry, texts, EncoderJob(EMBEDDINGS, entry.hidden_size))
        vectors = np.concatenate(answer.rows)
        scores = cosines(vectors[1:], vectors[:1])[:, 0].tolist()
        timings = Timings(query_us + tokenized.duration_us, answer.queue_us, answer.compute_us)
        return _Scores(tokenized.fill(iter(scores)), timings)


def _relevance_column(entry: ModelEntry) -> int:
    """Place of the logit that says how well two texts go together. Raises WRONG_TASK for a model without one."""
    if len(entry.labels) == 1:
        return 0
    for column, label in enumerate(entry.labels):
        if label.casefold() == RELEVANT:
            return column
    lacks = f'it has neither one label nor a label "{RELEVANT}"'
    raise NaiadError(Reason.WRONG_TASK, f"model: {entry.name!r} is no cross-encoder: {lacks}")


def _relevance(entry: ModelEntry, answer: EncoderAnswer, column: int) -> list[float]:
    """Scores of the pairs that ran."""
    if not answer.rows:
        return []
    # A softmax over a single label would be 1 whatever the texts are.
    activation = "sigmoid" if len(entry.labels) == 1 and entry.activation == "softmax" else entry.activation
    scores: list[float] = activate(np.concatenate(answer.rows), activation)[:, column].tolist()
    return scores


def _query_too_long(_: int, tokens: int, limit: int) -> NaiadError:
    return invalid_field("query", f"has {tokens} tokens, which leaves no room for a document in the model's {limit}")


def _response_bytes(documents: Sequence[str], options: RerankOptions) -> int:
    """Most bytes that the response takes."""
    size = len(documents) * ITEM_BYTES
    if options.return_documents:
        size += sum(sorted((len(document.encode()) for document in documents), reverse=True)[: options.top_k])
    return size
