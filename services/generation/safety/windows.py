"""Cuts text that comes in pieces into windows for a classifier: sentences, or less when these are long."""

import re
from collections.abc import Iterator

MAX_WINDOW_CHARS = 400
# The blank after a full stop shows that it is none inside a number or a name.
_SENTENCE_END = re.compile(r"(?:[.!?\u2026]+[\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]+|\n+)")


class SentenceWindows:
    """Holds text back until a window is whole."""

    def __init__(self) -> None:
        self._held = ""

    def push(self, piece: str) -> list[str]:
        """Windows that are whole now; together with what is held they are the text."""
        self._held += piece
        return list(self._cut())

    def finish(self) -> list[str]:
        """The rest, when no more text comes."""
        rest = [*self._cut(), self._held]
        self._held = ""
        return [window for window in rest if window]

    def _cut(self) -> Iterator[str]:
        while True:
            end = _SENTENCE_END.search(self._held, 0, MAX_WINDOW_CHARS)
            # Blanks may go on, and so may dots: an end that reaches the end of the text is not known yet.
            if end is not None and end.end() < len(self._held):
                cut = end.end()
            elif len(self._held) > MAX_WINDOW_CHARS:
                cut = self._held.rfind(" ", 1, MAX_WINDOW_CHARS) + 1 or MAX_WINDOW_CHARS
            else:
                return
            yield self._held[:cut]
            self._held = self._held[cut:]


def windows_of(text: str) -> list[str]:
    """The windows of a whole text."""
    windows = SentenceWindows()
    return [*windows.push(text), *windows.finish()]
