"""What the classification service does, free of gRPC."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from services.classification.encoder_client import (
    EMBEDDINGS,
    HIDDEN_STATES,
    LOGITS,
    EncoderAnswer,
    EncoderClient,
    EncoderJob,
)
from services.classification.scores import activate, best_first
from services.classification.vectors import shape_vectors
from services.common.admission import Admission
from services.common.errors import NaiadError, invalid_field
from services.common.registry import ModelEntry, Task
from services.common.text_models import MAX_TEXT_BYTES, MAX_TEXTS, TextModel, TextModels, text_is_too_long
from services.common.tokenizer import Encoded

FloatArray = npt.NDArray[np.float32]
NO_POOLING = "none"
# Bytes that a message, a repeated number's head and a small number take beside their content, at most.
_ITEM_BYTES = 32
_FLOAT_BYTES = 4
Item = str | tuple[str, str]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class ClassifyOptions:
    """How texts are classified; None for what the checkpoint says, and for all labels."""

    top_k: int | None = None
    activation: str | None = None
    truncate: bool = False


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are embedded; None for what the checkpoint says. `pooling` "none" gives a vector for each token."""

    pooling: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    truncate: bool = False


@dataclass(frozen=True)
class Timings:
    """Where the time went, in microseconds."""

    tokenization_us: int
    queue_us: int
    compute_us: int


@dataclass(frozen=True)
class Scored:
    """Labels of one text, best first, as (label, place in the logits, score)."""

    scores: list[tuple[str, int, float]]
    tokens: int


@dataclass(frozen=True)
class Embedded:
    """Vectors of one text, shape [1 or tokens, dimensions]."""

    vectors: FloatArray
    tokens: int


@dataclass(frozen=True)
class _Tokenized:
    """Items of a request: the tokens of each, or why it has none; and the time that took."""

    outcomes: list[Encoded | NaiadError]
    duration_us: int

    @property
    def good(self) -> list[Encoded]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, Encoded)]

    @property
    def tokens(self) -> int:
        return sum(len(text.ids) for text in self.good)


class ClassificationLogic:
    """Classifies and embeds with the encoder models of the repository."""

    def __init__(
        self, models: TextModels, client: EncoderClient, admission: Admission, max_response_bytes: int
    ) -> None:
        self._models = models
        self._client = client
        self._admission = admission
        self._max_response_bytes = max_response_bytes

    async def classify(
        self, model_name: str, items: Sequence[Item], options: ClassifyOptions, field: str
    ) -> tuple[list[Scored | NaiadError], Timings]:
        """Scores of each item, or why it has none. `field` names the items in errors. Raises NaiadError."""
        with self._admission.request():
            model = await self._models.get(model_name, Task.CLASSIFY)
            entry = model.entry
            _check_items(items, field)
            if options.top_k is not None and options.top_k < 1:
                raise invalid_field("top_k", f"{options.top_k} is less than 1")
            tokenized = await self._tokenize(model, items, field, options.truncate)
            label_bytes = sum(_ITEM_BYTES + len(label.encode()) for label in entry.labels)
            self._check_response_size(len(items) * (_ITEM_BYTES + label_bytes), field)
            answer = await self._run(entry, tokenized, EncoderJob(LOGITS, len(entry.labels)))
            scored = iter(_score(entry, tokenized.good, answer, options))
            return _fill(tokenized, scored), _timings(tokenized, answer)

    async def embed(
        self, model_name: str, texts: Sequence[str], options: EmbedOptions
    ) -> tuple[list[Embedded | NaiadError], Timings]:
        """Vectors of each text, or why it has none. Raises NaiadError."""
        with self._admission.request():
            model = await self._models.get(model_name, Task.EMBED)
            entry = model.entry
            _check_items(texts, "texts")
            dimensions = options.dimensions if options.dimensions is not None else entry.hidden_size
            if not 1 <= dimensions <= entry.hidden_size:
                raise invalid_field("dimensions", f"{dimensions} is not from 1 to {entry.hidden_size}")
            tokenized = await self._tokenize(model, texts, "texts", options.truncate)
            per_token = options.pooling == NO_POOLING
            vector_count = tokenized.tokens if per_token else len(tokenized.good)
            vector_bytes = _ITEM_BYTES + dimensions * _FLOAT_BYTES
            self._check_response_size(len(texts) * _ITEM_BYTES + vector_count * vector_bytes, "texts")
            job = EncoderJob(
                output=HIDDEN_STATES if per_token else EMBEDDINGS,
                width=entry.hidden_size,
                pooling=None if per_token else options.pooling,
            )
            answer = await self._run(entry, tokenized, job)
            # What the checkpoint says of normalizing is about pooled vectors.
            normalize = options.normalize if options.normalize is not None else entry.normalize and not per_token
            embedded = (
                Embedded(shape_vectors(rows, dimensions, normalize), len(text.ids))
                for rows, text in zip(answer.rows, tokenized.good, strict=True)
            )
            return _fill(tokenized, embedded), _timings(tokenized, answer)

    def entries(self) -> list[ModelEntry]:
        """Models that can classify or embed, in alphabetical order."""
        return self._models.registry.with_task(Task.CLASSIFY, Task.EMBED)

    async def _tokenize(self, model: TextModel, items: Sequence[Item], field: str, truncate: bool) -> _Tokenized:
        begun_s = time.perf_counter()
        limit = model.entry.context_length_tokens
        too_large = [_size_error(item, f"{field}[{i}]") for i, item in enumerate(items)]
        good = [item for item, error in zip(items, too_large, strict=True) if error is None]
        encoded = iter(
            await self._models.run(
                sum(map(_characters, good)), lambda: _encode(model, good, limit if truncate else None)
            )
        )
        outcomes = [error or _check_length(next(encoded), limit, f"{field}[{i}]") for i, error in enumerate(too_large)]
        tokenized = _Tokenized(outcomes, round((time.perf_counter() - begun_s) * 1e6))
        self._models.count_tokens(model, tokenized.tokens)
        return tokenized

    async def _run(self, entry: ModelEntry, tokenized: _Tokenized, job: EncoderJob) -> EncoderAnswer:
        with self._admission.cost(tokenized.tokens):
            return await self._client.run(entry, tokenized.good, job)

    def _check_response_size(self, response_bytes: int, field: str) -> None:
        if response_bytes > self._max_response_bytes:
            sizes = f"about {response_bytes} bytes, more than {self._max_response_bytes}"
            raise invalid_field(field, f"the response would take {sizes}: send fewer texts")


def _check_items(items: Sequence[Item], field: str) -> None:
    if not 1 <= len(items) <= MAX_TEXTS:
        raise invalid_field(field, f"{len(items)} items; 1 to {MAX_TEXTS} are allowed")


def _size_error(item: Item, field: str) -> NaiadError | None:
    parts = {field: item} if isinstance(item, str) else {f"{field}.first": item[0], f"{field}.second": item[1]}
    for name, text in parts.items():
        if text_is_too_long(text):
            return invalid_field(name, f"more than {MAX_TEXT_BYTES} bytes")
    return None


def _characters(item: Item) -> int:
    return len(item) if isinstance(item, str) else len(item[0]) + len(item[1])


def _encode(model: TextModel, items: Sequence[Item], max_length: int | None) -> list[Encoded]:
    pairs = [item for item in items if not isinstance(item, str)]
    if pairs:
        return model.tokenizer.encode_pairs(pairs, max_length)
    return model.tokenizer.encode([item for item in items if isinstance(item, str)], max_length=max_length)


def _check_length(encoded: Encoded, limit: int, field: str) -> Encoded | NaiadError:
    if not encoded.ids:
        return invalid_field(field, "has no tokens")
    if len(encoded.ids) > limit:
        found = f"has {len(encoded.ids)} tokens, more than the model's {limit}"
        return invalid_field(field, f"{found}; set truncate to cut it")
    return encoded


def _score(
    entry: ModelEntry, texts: Sequence[Encoded], answer: EncoderAnswer, options: ClassifyOptions
) -> list[Scored]:
    if not texts:
        return []
    scores = activate(np.concatenate(answer.rows), options.activation or entry.activation)
    return [
        Scored([(entry.labels[i], int(i), float(row[i])) for i in best_first(row, options.top_k)], len(text.ids))
        for row, text in zip(scores, texts, strict=True)
    ]


def _fill(tokenized: _Tokenized, results: Iterator[ResultT]) -> list[ResultT | NaiadError]:
    """The results at the places of the texts that have one, errors at the others."""
    return [outcome if isinstance(outcome, NaiadError) else next(results) for outcome in tokenized.outcomes]


def _timings(tokenized: _Tokenized, answer: EncoderAnswer) -> Timings:
    return Timings(tokenized.duration_us, answer.queue_us, answer.compute_us)
