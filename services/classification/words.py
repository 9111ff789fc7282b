"""Words of a text in any script, each with its place and the tokens that it is read as."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

_WORD, _PUNCTUATION, _SYMBOL, _MARK, _SPACE, _SINGLE = range(6)
# Between two letters, or two digits, they belong to the word, as in don't and 3.14.
_INSIDE_LETTERS = frozenset("'\u2019")
_INSIDE_DIGITS = frozenset(".,:")
# Written without spaces, so that a run of letters would be a whole sentence: each character is a word.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x3FFFF),
)


@dataclass(frozen=True)
class Word:
    """A word: code points [start, end) of its text, and the places of its tokens; at least one."""

    start: int
    end: int
    tokens: tuple[int, ...]


def split_words(text: str, max_words: int) -> list[tuple[int, int]]:
    """Words as [start, end) in code points: runs of letters and digits, of punctuation, or of symbols.

    Stops after `max_words` + 1, so that whoever needs fewer learns of it without reading the rest.
    """
    spans: list[tuple[int, int]] = []
    start = -1  # of the word that goes on; -1 between words
    kind = _SPACE
    for place, character in enumerate(text):
        found = _kind(character)
        if start >= 0 and (found == _MARK or (found == _PUNCTUATION and kind == _WORD and _joins(text, place))):
            found = kind
        elif found == _SINGLE or found != kind:
            if start >= 0:
                spans.append((start, place))
                if len(spans) > max_words:
                    return spans
            start = -1 if found in (_SPACE, _MARK) else place
        kind = found
    if start >= 0:
        spans.append((start, len(text)))
    return spans


def _kind(character: str) -> int:
    category = unicodedata.category(character)
    if category[0] in "LN":
        code = ord(character)
        unspaced = code >= _UNSPACED[0][0] and any(first <= code <= last for first, last in _UNSPACED)
        return _SINGLE if unspaced else _WORD
    if category[0] == "Z" or category == "Cc" or character == "\u200b":
        return _SPACE
    if category[0] == "M" or category == "Cf":
        return _MARK  # stays with what it follows: accents, vowel signs, joiners of emoji
    if category[0] == "P":
        return _WORD if category == "Pc" else _PUNCTUATION
    return _SYMBOL


def _joins(text: str, place: int) -> bool:
    if place + 1 >= len(text):
        return False
    before, character, after = text[place - 1], text[place], text[place + 1]
    if character in _INSIDE_LETTERS:
        return before.isalpha() and after.isalpha()
    return character in _INSIDE_DIGITS and before.isdigit() and after.isdigit()


def words_of_tokens(spans: Sequence[tuple[int, int]], offsets: Sequence[tuple[int, int]]) -> list[Word]:
    """The words that the model sees: each token belongs to the first word that it overlaps.

    `offsets` are the tokens' [start, end), empty for special ones. Words that share a token become one; a word
    without any, because the tokenizer dropped it or the text was cut before, is left out.
    """
    words: list[Word] = []
    span_index = 0
    for place, (start, end) in enumerate(offsets):
        if start >= end:
            continue
        while span_index < len(spans) and spans[span_index][1] <= start:
            span_index += 1
        if span_index == len(spans) or spans[span_index][0] >= end:
            continue  # between words: a space of its own
        first, last = spans[span_index]
        while span_index + 1 < len(spans) and spans[span_index + 1][0] < end:
            span_index += 1
            last = spans[span_index][1]
        if words and first < words[-1].end:
            words[-1] = Word(words[-1].start, max(last, words[-1].end), (*words[-1].tokens, place))
        else:
            words.append(Word(first, last, (place,)))
    return words
