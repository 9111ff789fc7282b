"""From labels of tokens to entities of a text: pure functions over code points."""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

OUTSIDE = "O"
_PREFIXED = re.compile(r"([BIELSU])-(.+)", re.DOTALL)
_BEGINS = frozenset("BSU")
_ENDS = frozenset("ELSU")


class Merge(Enum):
    """What becomes one entity."""

    ENTITIES = "entities"
    WORDS = "words"
    TOKENS = "tokens"


@dataclass(frozen=True)
class TokenLabel:
    """One token of a text: the code points [start, end) that it came from, its word, and the label that it got.

    `word` is the tokenizer's number of the word, `label` the label's place in the logits, `score` its probability.
    """

    start: int
    end: int
    word: int | None
    label: int
    score: float


@dataclass(frozen=True)
class Entity:
    """The code points [start, end) of a text, their label, and its mean probability over the tokens that gave it."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True)
class ParsedLabel:
    """A label taken apart. `begins`: never continues an entity; `ends`: no entity goes on after it."""

    kind: str
    full_name: str
    outside: bool
    begins: bool
    ends: bool


def parse_labels(labels: Sequence[str]) -> list[ParsedLabel]:
    """What each label says of the entity that its word is part of.

    Covers IOB1, IOB2 (BIO), BIOES and BILOU: an I- or E- without a beginning begins an entity, as it does in IOB1.
    Labels count as prefixed only if all but "O" are: else each is the name of a kind as it is.
    """
    matches = [_PREFIXED.fullmatch(label) for label in labels if label != OUTSIDE]
    if not all(matches):
        return [ParsedLabel(label, label, label == OUTSIDE, False, False) for label in labels]
    return [_parse_prefixed(label) for label in labels]


def _parse_prefixed(label: str) -> ParsedLabel:
    match = _PREFIXED.fullmatch(label)
    if match is None:
        return ParsedLabel(label, label, True, False, False)
    prefix, kind = match.groups()
    return ParsedLabel(kind, label, False, prefix in _BEGINS, prefix in _ENDS)


def find_entities(
    text: str, tokens: Iterable[TokenLabel], labels: Sequence[ParsedLabel], merge: Merge, include_outside: bool = False
) -> Iterator[Entity]:
    """Entities of a text in its order; they do not overlap, are not empty, and neither begin nor end with a space.

    `tokens` are those of the text in its order, without special ones.
    """
    pieces = list(_pieces(text, tokens))
    if merge is Merge.TOKENS:
        for piece in pieces:
            label = labels[piece.label]
            if include_outside or not label.outside:
                yield Entity(piece.start, piece.end, label.full_name, piece.score)
        return
    words_of_text = _words(text, pieces)
    groups = _runs(words_of_text, labels) if merge is Merge.ENTITIES else ([word] for word in words_of_text)
    for words in groups:
        label = labels[words[0][0].label]
        if include_outside or not label.outside:
            # A word has the label of its first token: that is the one which training gave a label.
            score = sum(word[0].score for word in words) / len(words)
            yield Entity(words[0][0].start, words[-1][-1].end, label.kind, score)


_Word = list[TokenLabel]


def _pieces(text: str, tokens: Iterable[TokenLabel]) -> Iterator[TokenLabel]:
    """Tokens without the spaces around them; of those that share a character the first stands for all.

    Marks that a tokenizer dropped or composed with the letter before them, such as accents, belong to that letter.
    """
    held: TokenLabel | None = None
    for token in tokens:
        start, end = _without_spaces(text, token.start, token.end)
        if start == end:
            continue
        if held is not None and start < held.end:
            held = TokenLabel(held.start, max(held.end, end), held.word, held.label, held.score)
            continue
        if held is not None:
            yield _with_marks(text, held, start)
        held = TokenLabel(start, end, token.word, token.label, token.score)
    if held is not None:
        yield _with_marks(text, held, len(text))


def _without_spaces(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _with_marks(text: str, token: TokenLabel, limit: int) -> TokenLabel:
    end = token.end
    while end < limit and _is_mark(text[end]):
        end += 1
    return token if end == token.end else TokenLabel(token.start, end, token.word, token.label, token.score)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _words(text: str, pieces: Iterable[TokenLabel]) -> Iterator[_Word]:
    """Runs of tokens of one word."""
    word: _Word = []
    for piece in pieces:
        if word and not _continues(text, word[-1], piece):
            yield word
            word = []
        word.append(piece)
    if word:
        yield word


def _continues(text: str, before: TokenLabel, piece: TokenLabel) -> bool:
    """Some tokenizers take a whole text for a word, so that spaces count, too; some begin a word with an accent."""
    between = text[before.end : piece.start]
    if piece.word == before.word:
        return not any(map(str.isspace, between))
    return not between and _is_mark(text[piece.start])


def _runs(words: Iterable[_Word], labels: Sequence[ParsedLabel]) -> Iterator[list[_Word]]:
    """Neighbouring words that are one entity, as their labels say."""
    run: list[_Word] = []
    for word in words:
        label = labels[word[0].label]
        if run:
            before = labels[run[-1][0].label]
            if before.ends or label.begins or label.outside or before.outside or label.kind != before.kind:
                yield run
                run = []
        run.append(word)
    if run:
        yield run


def byte_spans(text: str, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans of code points as spans of bytes of the text's UTF-8 form. They are in order and do not overlap."""
    chars = position = 0
    for start, end in spans:
        position += len(text[chars:start].encode())
        length = len(text[start:end].encode())
        yield position, position + length
        chars, position = end, position + length
