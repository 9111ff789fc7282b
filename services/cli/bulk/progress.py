"""How far a bulk run is: a bar on a terminal, else a line now and then."""

import sys
import time

from tqdm import tqdm

LINE_INTERVAL_S = 10.0


class Progress:
    """Shows rows done, the rate, and the time left if the number of all rows is known. On standard error."""

    def __init__(self, total_rows: int | None, done_rows: int) -> None:
        self._is_terminal = sys.stderr.isatty()
        # Without a terminal the bar is only asked for its text; an interval that never ends keeps it from writing.
        self._bar = tqdm(
            total=total_rows,
            initial=done_rows,
            unit=" rows",
            file=sys.stderr,
            dynamic_ncols=True,
            leave=True,
            mininterval=0.1 if self._is_terminal else float("inf"),
            delay=0 if self._is_terminal else float("inf"),
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt} rows, {rate_fmt}, {remaining} left"
            if total_rows
            else None,
        )
        self._next_line_s = time.monotonic() + LINE_INTERVAL_S

    def advance(self, rows: int) -> None:
        """Notes more rows."""
        self._bar.update(rows)
        if not self._is_terminal and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + LINE_INTERVAL_S
            self.say(str(self._bar).strip())

    def say(self, line: str) -> None:
        """Prints a line without harm to the bar."""
        self._bar.clear()
        print(f"naiad: {line}", file=sys.stderr, flush=True)
        if self._is_terminal:
            self._bar.refresh()

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()
