"""Finds stop texts in text that arrives in pieces."""

from collections.abc import Sequence
from typing import NamedTuple


class Matched(NamedTuple):  # there is one for each token
    """`text` may be shown; `stop` is the stop text that was met, None while there is none."""

    text: str
    stop: str | None = None


class StopTextMatcher:
    """Lets text through up to the first stop text, and holds back what may be the beginning of one.

    The match that is complete first wins; of several that end together, the longest. So the result does not depend on
    how the text is cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> Matched:
        """Takes the next piece. After a match, push no more."""
        if not self._stops:
            return Matched(piece)
        text = self._held + piece
        match = self._first_match(text)
        if match is not None:
            start, stop = match
            self._held = ""
            return Matched(text[:start], stop)
        keep = self._partial_length(text)
        self._held = text[len(text) - keep :]
        return Matched(text[: len(text) - keep])

    def finish(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> tuple[int, str] | None:
        found = [(start + len(stop), start, stop) for stop in self._stops if (start := text.find(stop)) >= 0]
        if not found:
            return None
        _, start, stop = min(found)
        return start, stop

    def _partial_length(self, text: str) -> int:
        """Length of the longest end of `text` with which some stop text begins."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
