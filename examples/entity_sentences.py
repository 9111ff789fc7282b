"""Sentences with marked names: from templates, from real editorials, and a few labelled by hand."""

from __future__ import annotations

import io
import random
import re
import tarfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.entity_lists import NameLists
from examples.film_reviews import OUTER_MEMBER
from examples.labelled_texts import DataError

DATA = Path(__file__).parent / "data"
EDITORIALS = "hutto_ICWSM_2014/nytEditorialSnippets_GroundTruth.txt"
_SLOT = re.compile(r"\{(PER|LOC|ORG)\}")
_MARK = re.compile(r"\[(PER|LOC|ORG) ([^\]]+)\]")
_HELD_OUT_EVERY = 5


@dataclass(frozen=True)
class Span:
    """Characters [start, end) of a text that name something of kind `label`."""

    start: int
    end: int
    label: str


@dataclass(frozen=True)
class MarkedText:
    """A text and its names, in order, which never overlap."""

    text: str
    spans: tuple[Span, ...]


def templates(held_out: bool) -> list[str]:
    """Templates of one part."""
    lines = [line for line in _lines("entity_templates.txt") if line]
    return [line for number, line in enumerate(lines) if (number % _HELD_OUT_EVERY == 0) == held_out]


def hand_labelled() -> list[MarkedText]:
    """Sentences that were written and labelled by hand; nothing of them is trained on."""
    return [_replaced(line, _MARK, lambda match: match[2]) for line in _lines("entity_gold.txt")]


def from_templates(sentences: Sequence[str], names: NameLists, count: int, chance: random.Random) -> list[MarkedText]:
    """`count` texts of one to two sentences with names put in."""
    made = []
    for _ in range(count):
        text = " ".join(chance.choice(sentences) for _ in range(1 + (chance.random() < 0.25)))
        made.append(_replaced(text, _SLOT, lambda match: _name(names, match[1], chance)))
    return made


def renamed(text: MarkedText, names: NameLists, chance: random.Random) -> MarkedText:
    """The same text about others: each person and place is replaced; organisations, mostly public bodies, stay."""
    pieces, at = [], 0
    for span in text.spans:
        name = text.text[span.start : span.end] if span.label == "ORG" else _name(names, span.label, chance)
        pieces += [text.text[at : span.start], f"[{span.label} {name}]"]
        at = span.end
    return _replaced("".join(pieces) + text.text[at:], _MARK, lambda match: match[2])


def _name(names: NameLists, label: str, chance: random.Random) -> str:
    makers: dict[str, Callable[[random.Random], str]] = {
        "PER": names.person,
        "LOC": names.place,
        "ORG": names.organisation,
    }
    return makers[label](chance)


def _replaced(text: str, pattern: re.Pattern[str], name_of: Callable[[re.Match[str]], str]) -> MarkedText:
    made, spans, at = "", [], 0
    for match in pattern.finditer(text):
        made += text[at : match.start()]
        name = name_of(match)
        spans.append(Span(len(made), len(made) + len(name), match[1]))
        made += name
        at = match.end()
    return MarkedText(made + text[at:], tuple(spans))


def _lines(name: str) -> list[str]:
    lines = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


_CAPITALS = re.compile(r"[A-Z][\w'-]*(?:\s+(?:of\s+)?[A-Z][\w'-]*)*")
_TITLES = ("Mr", "Mrs", "Ms", "Dr", "Gov", "Senator", "President", "Judge", "Justice", "Mayor", "Representative")
_BODIES = (
    "Department", "Court", "Congress", "Senate", "Commission", "Committee", "Council", "Agency", "University",
    "Party", "Board", "Bank", "Company", "Association", "Union", "Nations", "Institute", "Administration",
    "Authority", "Center", "Foundation",
)  # fmt: skip
_NO_NAMES = frozenset((
    "I", "January", "February", "March", "April", "May", "June", "July", "August", "September", "October",
    "November", "December", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday",
    "Christmas", "American", "Americans", "Republican", "Republicans", "Democrat", "Democrats", "Democratic",
    "Internet", "English", "Iraqi", "Israeli", "Palestinian", "Russian", "Chinese", "European", "French",
    "British", "German", "Soviet", "Japanese", "Italian", "Canadian", "Mexican", "African", "Asian", "Arab",
    "Jewish", "Christian", "Muslim", "Catholic",
))  # fmt: skip


def editorials(archive: Path, names: Sequence[NameLists], held_out: bool) -> list[MarkedText]:
    """Real sentences whose every capitalised phrase is surely a name of one kind, or surely none; others are left out.

    Newspaper editorials of the archive of `film_reviews`. Labels come from titles, lists and the last words of public
    bodies, so that they are mostly right and not all: "silver", not gold. The parts share no editorial.
    """
    sentences = _editorial_sentences(archive)
    lower = Counter(word for _, text in sentences for word in re.findall(r"\b[a-z]+\b", text))
    places = {place for part in names for place in (*part.cities, *part.countries)}
    first_names = {name for part in names for name in part.first_names}
    kept = []
    for editorial, text in sentences:
        spans = _silver_spans(text, places, first_names, lower)
        if spans is not None and (editorial % _HELD_OUT_EVERY == 0) == held_out:
            kept.append(MarkedText(text, spans))
    return kept


def _editorial_sentences(archive: Path) -> list[tuple[int, str]]:
    try:
        with tarfile.open(archive) as outer:
            inner_bytes = outer.extractfile(OUTER_MEMBER)
            assert inner_bytes is not None
            with tarfile.open(fileobj=io.BytesIO(inner_bytes.read())) as inner:
                member = inner.extractfile(EDITORIALS)
                assert member is not None
                lines = member.read().decode("utf-8").splitlines()
        parts = [line.split("\t") for line in lines]
        return [(int(place.partition("_")[0]), text.replace("''", '"').strip()) for place, _, text in parts]
    except (tarfile.TarError, OSError, KeyError, ValueError, AssertionError) as error:
        raise DataError(f"{archive}: not the expected archive of rated sentences: {error}") from None


def _silver_spans(text: str, places: set[str], first_names: set[str], lower: Counter[str]) -> tuple[Span, ...] | None:
    spans = []
    for match in _CAPITALS.finditer(text):
        phrase, start = match[0].removesuffix("'s"), match.start()
        if start == 0 or text[:start].rstrip().endswith((".", '"', "?", ":")):
            first, _, rest = phrase.partition(" ")
            if lower[first.lower()] >= 2:  # An ordinary word that begins a sentence.
                phrase, start = rest, start + len(first) + 1
        words = phrase.split()
        if not words or all(word in _NO_NAMES for word in words):
            continue
        if words[0] in _TITLES and words[-1] not in _BODIES:  # "Justice Department" is no person.
            start += len(words[0]) + 1
            words = words[1:]
            if not words:  # "Mr. Smith": the dot parts the two.
                continue
        label = _kind(text[:start], words, places, first_names)
        if label is None:
            return None
        spans.append(Span(start, start + len(" ".join(words)), label))
    return tuple(span for span in spans if span.start < span.end)


def _kind(before: str, words: list[str], places: set[str], first_names: set[str]) -> str | None:
    if re.search(rf"\b({'|'.join(_TITLES)})\.?\s*$", before):
        return "PER"
    if " ".join(words) in places:
        return "LOC"
    if words[-1] in _BODIES and (len(words) > 1 or words[-1] in ("Congress", "Senate")):
        return "ORG"
    if len(words) in (2, 3) and words[0] in first_names and "of" not in words:
        return "PER"
    return None
