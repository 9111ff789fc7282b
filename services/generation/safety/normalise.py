"""Text as words are compared: compatibility-composed, case-folded, blanks as one space, nothing invisible."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

_BLANKS = re.compile(r"\s+")
# Characters that show nothing: format characters, variation selectors, the combining grapheme joiner, fillers.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U000e0000-\U000e0fff]+"
)
# Vowels and final consonants of Hangul that are written apart join the syllable before.
_JOINING_JAMO = ("\u1161", "\u11ff")
# Scripts without blanks between words, and Korean, whose particles stick to them.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Normalised:
    """Normalised `text`; its character i comes from `starts[i]` to `ends[i]` of the original."""

    text: str
    starts: list[int]
    ends: list[int]


def normalised_text(text: str) -> str:
    """The text without the map."""
    if text.isascii():
        return _BLANKS.sub(" ", text.lower())
    visible = _INVISIBLE.sub("", text)  # first: marks join what is before them only when nothing stands between
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", visible).casefold())
    return _BLANKS.sub(" ", _INVISIBLE.sub("", folded))


def normalise(text: str) -> Normalised:
    """The text with the map. A character with the marks that follow it is taken as one."""
    found: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    start = 0
    while start < len(text):
        end = start + 1
        while end < len(text) and joins(text[end]):
            end += 1
        for character in _normalised_segment(text[start:end]):
            if character == " " and found and found[-1] == " ":
                ends[-1] = end
            else:
                found.append(character)
                starts.append(start)
                ends.append(end)
        start = end
    return Normalised("".join(found), starts, ends)


@lru_cache(maxsize=1 << 14)
def _normalised_segment(segment: str) -> str:
    return normalised_text(segment)


def joins(character: str) -> bool:
    """Whether a character is written together with the one before, and may change it; so does what is invisible."""
    return not character.isascii() and (
        unicodedata.category(character).startswith("M")
        or _JOINING_JAMO[0] <= character <= _JOINING_JAMO[1]
        or _INVISIBLE.match(character) is not None
    )


@lru_cache(maxsize=1 << 14)
def is_word_character(character: str) -> bool:
    """Whether a word goes on over a border next to this character."""
    wordy = character.isalnum() or character == "_" or unicodedata.category(character).startswith("M")
    return wordy and _UNSPACED.match(character) is None
