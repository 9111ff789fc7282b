"""When a refused client may come again: later the more are refused, and not all at the same time."""

import math
import random
import time
from collections.abc import Callable

MEMORY_S = 2.0  # after so long a call counts for little more than a third
JITTER = 0.25
STEP_MS = 10  # so that few different texts of it are needed


class RetryTime:
    """Grows with refused calls per admitted one: at twice the load that fits it is twice `base_ms`."""

    def __init__(
        self,
        base_ms: int,
        max_ms: int,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        """`draw` gives numbers from 0 to 1."""
        self._base_ms = base_ms
        self._max_ms = max(base_ms, max_ms)
        self._clock = clock
        self._draw = draw
        self._admitted = 0.0
        self._refused = 0.0
        self._at_s = clock()

    def note_admitted(self) -> None:
        """Counts a call that was let in."""
        self._fade()
        self._admitted += 1

    def next_ms(self) -> int:
        """Counts a call that is refused, and gives the time that it is told."""
        self._fade()
        self._refused += 1
        wanted_ms = self._base_ms * (1 + self._refused / max(1.0, self._admitted))
        jittered_ms = min(wanted_ms, self._max_ms) * (1 + JITTER * (2 * self._draw() - 1))
        return max(1, min(self._max_ms, round(jittered_ms / STEP_MS) * STEP_MS))

    def _fade(self) -> None:
        now_s = self._clock()
        kept = math.exp((self._at_s - now_s) / MEMORY_S)
        self._admitted *= kept
        self._refused *= kept
        self._at_s = now_s
