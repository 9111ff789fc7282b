"""Texts of one call on their way through the tokenizer and the engine: what all RPCs share. Free of gRPC."""

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from services.classification.encoder_client import EMBEDDINGS, HIDDEN_STATES, EncoderClient, EncoderJob
from services.classification.pack_queue import EncoderAnswer, EncoderInput
from services.common.admission import Admission
from services.common.bounds import MAX_TEXT_BYTES
from services.common.call import current_call
from services.common.deadline import RecentTimes
from services.common.engine_run import EngineRun
from services.common.errors import NaiadError, invalid_field
from services.common.registry import ModelEntry
from services.common.text_models import TextModel, TextModels, text_is_too_long
from services.common.tokenizer import Encoded

# Bytes that a message, a repeated number's head and a small number take beside their content, at most.
ITEM_BYTES = 32
_PAIR_PARTS = (".first", ".second")
Item = str | tuple[str, str]
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Timings:
    """Where the time went, in microseconds."""

    tokenization_us: int
    queue_us: int
    compute_us: int


@dataclass(frozen=True)
class Tokenized:
    """Items of a request: the tokens of each, or why it has none; and the time that took."""

    outcomes: list[Encoded | NaiadError]
    duration_us: int

    @cached_property
    def good(self) -> list[Encoded]:
        """The items that have tokens, in order."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, Encoded)]

    @cached_property
    def tokens(self) -> int:
        """Tokens of all items together."""
        return sum(map(len, self.good))

    def fill(self, results: Iterator[ResultT]) -> list[ResultT | NaiadError]:
        """The results at the places of the items that have tokens, errors at the others."""
        return [outcome if isinstance(outcome, NaiadError) else next(results) for outcome in self.outcomes]

    def timings(self, answer: EncoderAnswer) -> Timings:
        """Where the time went."""
        return Timings(self.duration_us, answer.queue_us, answer.compute_us)


class TextBatches:
    """Tokenizes texts and runs them on encoder models, within the bounds of the service."""

    def __init__(
        self, models: TextModels, client: EncoderClient, admission: Admission, max_response_bytes: int
    ) -> None:
        self.models = models
        self.admission = admission
        self.client = client
        self._times: defaultdict[str, RecentTimes] = defaultdict(RecentTimes)  # of models that exist
        self._max_response_bytes = max_response_bytes

    async def tokenize(
        self, model: TextModel, items: Sequence[Item], field: str, truncate: bool, max_tokens: int | None = None
    ) -> Tokenized:
        """Tokens of each item, or why it has none; `field` names the items in errors.

        What is longer than `max_tokens`, by default the model's limit, is cut, or is an error. Raises OVERLOADED.
        """
        begun_s = time.perf_counter()
        limit = model.entry.context_length_tokens if max_tokens is None else max_tokens
        too_large = {i: error for i, item in enumerate(items) if (error := size_error(item, field, i))}
        good = [item for i, item in enumerate(items) if i not in too_large] if too_large else items
        characters = sum(map(_characters, good))
        encoded = iter(await self.models.run(characters, lambda: _encode(model, good, limit if truncate else None)))
        outcomes = [too_large.get(i) or check_length(next(encoded), limit, field, i) for i in range(len(items))]
        tokenized = Tokenized(outcomes, round((time.perf_counter() - begun_s) * 1e6))
        self.models.count_tokens(model, tokenized.tokens)
        return tokenized

    async def tokenize_one(self, model: TextModel, text: str, field: str, truncate: bool) -> Encoded:
        """Tokens of one text that the whole call needs; `field` is its name. Raises INVALID_FIELD, OVERLOADED."""
        limit = model.entry.context_length_tokens
        (encoded,) = await self.models.run(len(text), lambda: _encode(model, [text], limit if truncate else None))
        outcome = check_length(encoded, limit, field)
        if isinstance(outcome, NaiadError):
            raise outcome
        self.models.count_tokens(model, len(outcome))
        return outcome

    async def run(self, entry: ModelEntry, texts: Sequence[EncoderInput], job: EncoderJob) -> EncoderAnswer:
        """The engine's rows for the texts, in order; their tokens count as in flight meanwhile.

        Raises NaiadError; DEADLINE_EXCEEDED at once when so much usually takes longer than the call has.
        """
        tokens, times = sum(map(len, texts)), self._times[entry.name]
        times.check(tokens, current_call().deadline_s)
        begun_s = time.monotonic()
        with self.admission.cost(tokens):
            answer = await run_noted(self.client, entry, texts, job)
        times.add(tokens, time.monotonic() - begun_s)
        self.admission.observe_wait(answer.first_queue_us / 1e6)
        return answer

    def check_response_size(self, response_bytes: int, field: str) -> None:
        """Raises INVALID_FIELD for `field` when the response would be larger than the service sends."""
        if response_bytes > self._max_response_bytes:
            sizes = f"about {response_bytes} bytes, more than {self._max_response_bytes}"
            raise invalid_field(field, f"the response would take {sizes}: send fewer texts")


async def run_noted(
    client: EncoderClient, entry: ModelEntry, texts: Sequence[EncoderInput], job: EncoderJob
) -> EncoderAnswer:
    """Runs the texts, and notes for log and trace how long that took. Raises NaiadError."""
    begun_s = time.monotonic()
    operation = "embeddings" if job.output in (EMBEDDINGS, HIDDEN_STATES) else "classify"
    phases_us: dict[str, int] = {}
    try:
        answer = await client.run(entry, texts, job)
        phases_us = {"queue": answer.queue_us, "compute": answer.compute_us}
        return answer
    finally:
        attributes = {"gen_ai.usage.input_tokens": sum(map(len, texts)), "naiad.texts": len(texts)}
        run = EngineRun(operation, entry.name, begun_s, time.monotonic(), phases_us, attributes)
        current_call().engine_runs.add(run)


def check_items(items: Sequence[Item], field: str) -> None:
    """Raises INVALID_FIELD unless there are items."""
    if not items:
        raise invalid_field(field, "no items; at least 1 is needed")


def size_error(item: Item, field: str, place: int | None = None) -> NaiadError | None:
    """Why the item is too large to be tokenized, or None. `field` names it, or the list that it has a place in."""
    if isinstance(item, str):
        part = "" if text_is_too_long(item) else None
    else:
        part = next((part for part, text in zip(_PAIR_PARTS, item, strict=True) if text_is_too_long(text)), None)
    if part is None:
        return None
    return invalid_field(_name(field, place) + part, f"more than {MAX_TEXT_BYTES} bytes")


def _name(field: str, place: int | None) -> str:
    return field if place is None else f"{field}[{place}]"


def _characters(item: Item) -> int:
    return len(item) if isinstance(item, str) else len(item[0]) + len(item[1])


def _encode(model: TextModel, items: Sequence[Item], max_length: int | None) -> list[Encoded]:
    texts = [item for item in items if isinstance(item, str)]
    if texts:
        return model.tokenizer.encode(texts, max_length=max_length)
    return model.tokenizer.encode_pairs([item for item in items if not isinstance(item, str)], max_length)


def check_length(encoded: Encoded, limit: int, field: str, place: int | None = None) -> Encoded | NaiadError:
    """The tokens, or why they cannot be read as `field`, or as what has that place in it."""
    if 0 < len(encoded) <= limit:
        return encoded
    if not len(encoded):
        return invalid_field(_name(field, place), "has no tokens")
    found = f"has {len(encoded)} tokens, more than the model's {limit}"
    return invalid_field(_name(field, place), f"{found}; set truncate to cut it")
