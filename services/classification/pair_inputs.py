"""Pairs of texts of which many share one: each text is tokenized once, and a pair is put together when it is sent."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.classification.encoder_client import LOGITS, EncoderJob
from services.classification.pack_queue import EncoderAnswer
from services.classification.text_batches import TextBatches, Timings, size_error
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.text_models import TextModel
from services.common.tokenizer import TextTokenizer

# Most tokens of all pairs of one call: more is hours of work for one small message.
MAX_PAIR_TOKENS = 8 * 1024 * 1024
# Any tokenizer has tokens for one of them.
_PROBES = ("a", "0", "\u4e2d")


@dataclass(frozen=True)
class _Part:
    """Special tokens, or the place of a whole text: 0 for the first, 1 for the second."""

    ids: tuple[int, ...]
    text: int | None
    type_ids: tuple[int, ...]  # one a token; a single one for a text


@dataclass(frozen=True)
class PairTemplate:
    """How a tokenizer puts two texts together. What it makes of a text does not depend on the other one."""

    parts: tuple[_Part, ...]

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> "PairTemplate":
        """Reads it off a pair that the tokenizer made. Raises INTERNAL."""
        for probe in _PROBES:
            (encoded,) = tokenizer.encode_pairs([(probe, probe)])
            parts: list[_Part] = []
            for token, type_id, text in zip(encoded.ids, encoded.type_ids, encoded.sequence_ids, strict=True):
                if text is None:
                    parts.append(_Part((token,), None, (type_id,)))
                elif not parts or parts[-1].text != text:
                    parts.append(_Part((), text, (type_id,)))
            if [part.text for part in parts if part.text is not None] == [0, 1]:
                return cls(tuple(parts))
        raise NaiadError(Reason.INTERNAL, "the model's tokenizer does not put texts together in pairs")

    @property
    def special_tokens(self) -> int:
        """Tokens of a pair beside those of its texts."""
        return sum(len(part.ids) for part in self.parts)


@dataclass(frozen=True)
class PairInput:
    """One pair: the ids of its texts without special tokens. Its own lists are made when they are asked for."""

    template: PairTemplate
    first: Sequence[int]
    second: Sequence[int]

    @property
    def ids(self) -> list[int]:
        """Token ids."""
        texts = (self.first, self.second)
        return [
            token for part in self.template.parts for token in (part.ids if part.text is None else texts[part.text])
        ]

    @property
    def type_ids(self) -> list[int]:
        """Which text each token belongs to, as the model wants it."""
        lengths = (len(self.first), len(self.second))
        return [
            type_id
            for part in self.template.parts
            for type_id in (part.type_ids if part.text is None else part.type_ids * lengths[part.text])
        ]

    def __len__(self) -> int:
        return self.template.special_tokens + len(self.first) + len(self.second)


@dataclass(frozen=True)
class SharedPairs:
    """Texts that are each read together with the same others: token ids without special tokens.

    `shared` are the others; `outcomes` the texts, cut to where they fit with any of `shared`, or why they have no ids.
    """

    template: PairTemplate
    shared: list[list[int]]
    outcomes: list[list[int] | NaiadError]
    duration_us: int

    @property
    def good(self) -> list[list[int]]:
        """Ids of the texts that have some."""
        return [outcome for outcome in self.outcomes if not isinstance(outcome, NaiadError)]

    def timings(self, answer: EncoderAnswer) -> Timings:
        """Where the time went."""
        return Timings(self.duration_us, answer.queue_us, answer.compute_us)


@dataclass(frozen=True)
class SharedTexts:
    """What every text of a call is read together with.

    In errors one of them is `name`, and the other texts are `field`; `no_room(place, tokens, limit)` is the error for
    one that leaves no room for any text.
    """

    texts: Sequence[str]
    name: str
    field: str
    no_room: Callable[[int, int, int], NaiadError]


async def tokenize_shared(
    batches: TextBatches, model: TextModel, shared: SharedTexts, texts: Sequence[str], truncate: bool
) -> SharedPairs:
    """Tokens of both; a text that does not fit is cut or has an error. Raises NaiadError."""
    field = shared.field
    begun_s = time.perf_counter()
    sizes = [size_error(text, field, i) for i, text in enumerate(texts)]
    everything = [*shared.texts, *(text for text, error in zip(texts, sizes, strict=True) if error is None)]
    encoded = await batches.models.run(sum(map(len, everything)), lambda: model.tokenizer.encode_plain(everything))
    shared_ids, text_ids = encoded[: len(shared.texts)], iter(encoded[len(shared.texts) :])
    template = PairTemplate.of(model.tokenizer)
    limit = model.entry.context_length_tokens
    # The same part of a text beside each of `shared`, or their scores could not be compared.
    longest = max(range(len(shared_ids)), key=lambda place: len(shared_ids[place]))
    room = limit - template.special_tokens - len(shared_ids[longest])
    if room < 1:
        raise shared.no_room(longest, len(shared_ids[longest]), limit)

    def fit(ids: list[int], place: int) -> list[int] | NaiadError:
        if len(ids) <= room or truncate:
            return ids[:room]
        found = f"has {limit - room + len(ids)} tokens together with {shared.name}, more than the model's {limit}"
        return invalid_field(f"{field}[{place}]", f"{found}; set truncate to cut it")

    outcomes = [error or fit(next(text_ids), place) for place, error in enumerate(sizes)]
    return SharedPairs(template, shared_ids, outcomes, round((time.perf_counter() - begun_s) * 1e6))


async def run_pairs(batches: TextBatches, model: TextModel, pairs: Sequence[PairInput], field: str) -> EncoderAnswer:
    """Logits of the pairs. Raises INVALID_FIELD for `field` when they have too many tokens together."""
    tokens = sum(map(len, pairs))
    if tokens > MAX_PAIR_TOKENS:
        found = f"all pairs together have {tokens} tokens, more than {MAX_PAIR_TOKENS}"
        raise invalid_field(field, f"{found}: send fewer texts")
    batches.models.count_tokens(model, tokens)
    return await batches.run(model.entry, pairs, EncoderJob(LOGITS, len(model.entry.labels)))
