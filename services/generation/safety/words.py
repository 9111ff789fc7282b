"""Finds the words of a list in text, whole or in pieces."""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from services.generation.safety.normalise import (
    Normalised,
    is_word_character,
    joins,
    normalise,
    normalised_text,
)


@dataclass(frozen=True)
class WordMatch:
    """A word from `start` to `end` of a text, and the names of the rules that have it."""

    start: int
    end: int
    rules: tuple[str, ...]


@dataclass(frozen=True)
class Scanned:
    """Text that no match can reach any more, and the matches in it, which may overlap, in the order of their ends."""

    text: str
    matches: list[WordMatch]


class WordMatcher:
    """The words of several rules as one automaton (Aho-Corasick). A word is found only as a whole word."""

    def __init__(self, words_of_rules: Mapping[str, Sequence[str]]) -> None:
        """`words_of_rules` has a word for each rule. Raises ModuleNotFoundError without pyahocorasick."""
        import ahocorasick

        rules_of_word: dict[str, list[str]] = {}
        for rule, words in words_of_rules.items():
            for word in dict.fromkeys(normalised_text(word).strip() for word in words):
                if word:
                    rules_of_word.setdefault(word, []).append(rule)
        self._automaton = ahocorasick.Automaton()
        for word, rules in rules_of_word.items():
            self._automaton.add_word(word, (len(word), tuple(rules)))
        self._automaton.make_automaton()
        self._longest = max(map(len, rules_of_word), default=0)

    def find(self, before: str, text: str, at_end: bool) -> Iterator[WordMatch]:
        """Matches in normalised `text`, which follows the character `before` (empty at the beginning).

        Without `at_end` more text may follow, so that a match that reaches the end is not one yet.
        """
        if not self._longest:
            return
        for last, (length, rules) in self._automaton.iter(text):
            start, end = last + 1 - length, last + 1
            following = text[end : end + 1]
            decided = bool(following) or at_end
            if (
                decided
                and _border(text[start - 1] if start else before, text[start])
                and _border(text[last], following)
            ):
                yield WordMatch(start, end, rules)

    def unfinished_from(self, before: str, text: str) -> int:
        """Where in normalised `text` a match may begin that needs more text; its length when nowhere."""
        for start in range(max(0, len(text) - self._longest), len(text)):
            if _border(text[start - 1] if start else before, text[start]) and self._automaton.match(text[start:]):
                return start
        return len(text)


def _border(left: str, right: str) -> bool:
    """Whether a word may end between the two, each one character, or empty at the ends of the text."""
    return not (left and right and is_word_character(left) and is_word_character(right))


class WordScanner:
    """Reads one text in pieces. What may be the beginning of a match is held back until that is decided."""

    def __init__(self, matcher: WordMatcher) -> None:
        self._matcher = matcher
        self._held = ""
        self._before = ""

    def push(self, piece: str) -> Scanned:
        """Takes the next piece."""
        raw = self._held + piece
        found = normalise(raw)
        matches = list(self._matcher.find(self._before, found.text, at_end=False))
        # A mark in the next piece may make another character of the last one: both it and what it becomes count.
        last = _last_segment(raw)
        settled = found.text[: bisect_left(found.starts, last)]
        cut = min(self._matcher.unfinished_from(self._before, text) for text in (settled, found.text))
        cut = _whole(min(cut, len(settled)), found, matches)
        raw_cut = min(found.starts[cut], last) if cut < len(found.text) else last
        return self._release(raw, found, [match for match in matches if match.end <= cut], cut, raw_cut)

    def finish(self) -> Scanned:
        """The rest, when no more text comes."""
        found = normalise(self._held)
        matches = list(self._matcher.find(self._before, found.text, at_end=True))
        return self._release(self._held, found, matches, len(found.text), len(self._held))

    def _release(self, raw: str, found: Normalised, matches: list[WordMatch], cut: int, raw_cut: int) -> Scanned:
        self._held = raw[raw_cut:]
        if cut:
            self._before = found.text[cut - 1]
        shown = [WordMatch(found.starts[match.start], found.ends[match.end - 1], match.rules) for match in matches]
        return Scanned(raw[:raw_cut], shown)


def _last_segment(raw: str) -> int:
    """Where the last character begins, with the marks that follow it."""
    last = max(0, len(raw) - 1)
    while last > 0 and joins(raw[last]):
        last -= 1
    return last


def _whole(cut: int, found: Normalised, matches: Sequence[WordMatch]) -> int:
    """The last place up to `cut` that divides neither a match nor an original character."""
    while True:
        earlier = min((match.start for match in matches if match.start < cut < match.end), default=cut)
        while 0 < earlier < len(found.starts) and found.starts[earlier - 1] == found.starts[earlier]:
            earlier -= 1
        if earlier == cut:
            return cut
        cut = earlier


def find_words(matcher: WordMatcher, text: str) -> Scanned:
    """All matches in a whole text."""
    if next(matcher.find("", normalised_text(text), at_end=True), None) is None:
        return Scanned(text, [])
    found = normalise(text)
    matches = matcher.find("", found.text, at_end=True)
    return Scanned(
        text, [WordMatch(found.starts[match.start], found.ends[match.end - 1], match.rules) for match in matches]
    )
