"""Lines that the supervisor prints."""

import sys
import time
from collections.abc import Sequence
from typing import TextIO

LOG_LINE_CHARACTERS = 240


class Reporter:
    """Prints one line an event, flushed at once, with the seconds since the start."""

    def __init__(self, output: TextIO | None = None) -> None:
        self._output = output if output is not None else sys.stdout
        self._start_s = time.monotonic()

    def progress(self, message: str) -> None:
        """Something happened."""
        self._print(f"[{time.monotonic() - self._start_s:6.1f} s] {message}")

    def plain(self, message: str = "") -> None:
        """A line, or several, as they are."""
        self._print(message)

    def log_tail(self, name: str, lines: Sequence[str]) -> None:
        """The last lines of a child's log, marked with its name."""
        for line in lines:
            self._print(f"    {name} | {line[:LOG_LINE_CHARACTERS]}")

    def _print(self, text: str) -> None:
        print(text, file=self._output, flush=True)
