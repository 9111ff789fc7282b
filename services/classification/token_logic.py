"""ClassifyTokens, free of gRPC."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.encoder_client import LOGITS, EncoderJob
from services.classification.entities import (
    Entity,
    Merge,
    ParsedLabel,
    TokenLabel,
    byte_spans,
    find_entities,
    parse_labels,
)
from services.classification.scores import best_labels
from services.classification.text_batches import ITEM_BYTES, TextBatches, Timings, check_items
from services.classification.window_inputs import WindowedText, check_overlap
from services.common.bounds import range_of
from services.common.errors import NaiadError, invalid_field
from services.common.registry import Task

MIN_SCORE = range_of("ClassifyTokensRequest", "min_score")
FloatArray = npt.NDArray[np.float32]
# An entity, its span, score and label's head: with all numbers at their longest.
_ENTITY_BYTES = 2 * ITEM_BYTES
# From here on the event loop would notice that labels are merged.
_THREAD_TOKENS = 4_096


@dataclass(frozen=True)
class TokenOptions:
    """How labels become entities. `window_overlap_tokens` None: a text that is too long is an error, or is cut."""

    merge: Merge = Merge.ENTITIES
    min_score: float = 0.0
    include_outside: bool = False
    truncate: bool = False
    window_overlap_tokens: int | None = None


@dataclass(frozen=True)
class FoundEntity:
    """An entity, the bytes [start_byte, end_byte) of the text's UTF-8 form that it is, and what they say."""

    entity: Entity
    start_byte: int
    end_byte: int
    text: str


@dataclass(frozen=True)
class Labelled:
    """Entities of one text, in its order."""

    entities: list[FoundEntity]
    tokens: int


class TokenLogic:
    """Entities of texts."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches

    async def classify_tokens(
        self, model_name: str, texts: Sequence[str], options: TokenOptions
    ) -> tuple[list[Labelled | NaiadError], Timings]:
        """Entities of each text, or why it has none. Raises NaiadError."""
        batches = self._batches
        with batches.admission.request():
            model = await batches.models.get(model_name, Task.CLASSIFY_TOKENS)
            entry = model.entry
            check_items(texts, "texts")
            _check_options(options)
            overlap = options.window_overlap_tokens
            limit = entry.context_length_tokens
            if overlap is not None:
                check_overlap(overlap, model)
            tokenized = await batches.tokenize(
                model, texts, "texts", options.truncate, max_tokens=None if overlap is None else sys.maxsize
            )
            if options.include_outside:  # then each token may come back
                text_bytes = sum(len(text.encode()) for text in texts)
                batches.check_response_size(text_bytes + tokenized.tokens * _ENTITY_BYTES, "texts")
            windowed = [WindowedText(encoded, limit, overlap or 0) for encoded in tokenized.good]
            inputs = [window for text in windowed for window in text.inputs]
            answer = await batches.run(entry, inputs, EncoderJob(LOGITS, len(entry.labels), token_logits=True))
            good = [text for text, outcome in zip(texts, tokenized.outcomes, strict=True) if not _failed(outcome)]
            labels = parse_labels(entry.labels)

            def label_all() -> list[Labelled]:
                rows = iter(answer.rows)
                return [
                    _label(text, window, [next(rows) for _ in window.inputs], labels, options)
                    for text, window in zip(good, windowed, strict=True)
                ]

            labelled = await asyncio.to_thread(label_all) if tokenized.tokens > _THREAD_TOKENS else label_all()
            batches.check_response_size(sum(map(_response_bytes, labelled)), "texts")
            return tokenized.fill(iter(labelled)), tokenized.timings(answer)


def _check_options(options: TokenOptions) -> None:
    if not MIN_SCORE.allows(options.min_score):  # NaN, too
        raise invalid_field("min_score", f"{options.min_score} is not {MIN_SCORE}")
    if options.include_outside and options.merge is Merge.ENTITIES:
        raise invalid_field("include_outside", "goes with merge WORDS or TOKENS only")
    if options.window_overlap_tokens is not None and options.truncate:
        raise invalid_field("window_overlap_tokens", "cannot be set together with truncate")


def _failed(outcome: object) -> bool:
    return isinstance(outcome, NaiadError)


def _label(
    text: str, windowed: WindowedText, rows: Sequence[FloatArray], labels: Sequence[ParsedLabel], options: TokenOptions
) -> Labelled:
    best, scores = best_labels(windowed.owned_rows(rows))
    tokens = (
        TokenLabel(start, end, word, label, score)
        for (start, end), word, label, score in zip(
            windowed.offsets, windowed.word_ids, best.tolist(), scores.tolist(), strict=True
        )
    )
    found = [
        entity
        for entity in find_entities(text, tokens, labels, options.merge, options.include_outside)
        if entity.score >= options.min_score
    ]
    spans = byte_spans(text, ((entity.start, entity.end) for entity in found))
    entities = [
        FoundEntity(entity, start, end, text[entity.start : entity.end])
        for entity, (start, end) in zip(found, spans, strict=True)
    ]
    return Labelled(entities, windowed.tokens)


def _response_bytes(labelled: Labelled) -> int:
    return ITEM_BYTES + sum(
        _ENTITY_BYTES + len(found.entity.label.encode()) + found.end_byte - found.start_byte
        for found in labelled.entities
    )
