"""How much work a model may have in flight, learned from how long requests wait for it.

The time that counts is the one before work on a request begins. An engine that batches continuously takes new requests
into its next step until it is full, so that this time stays short however many requests run, and grows exactly when
more is sent than can be worked on. The total time would not do: it grows with every neighbour in the batch, long before
the engine is full, and a limit on it would cost throughput.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

WINDOW_S = 0.25
# A window with fewer waits than this goes on, for so many times its length at most.
MIN_SAMPLES = 8
MAX_WINDOWS = 4
MOST_CUT = 0.5  # what is left of the limit after one window, at least
MOST_GROWTH = 0.15  # of the limit in one window, when nothing waits at all
USED_SHARE = 0.8  # less of the limit in use says nothing about a higher one
# The mean wait that is aimed at, of the longest that calls should have: where the mean is this, nearly all are shorter.
MEAN_SHARE = 0.7


@dataclass(frozen=True)
class LimitOptions:
    """Bounds of a limit in tokens, where it starts, and the wait that nearly all calls should stay below."""

    minimum: int
    maximum: int
    start: int
    target_s: float


class AdaptiveLimit:
    """A limit in tokens that follows the waits: cut in proportion when they are too long, raised while they are short.

    Waits of requests that were admitted before the last change are not counted: they tell of the time before it, and
    would cut, or raise, again for the same reason.
    """

    def __init__(self, options: LimitOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._limit = float(min(max(options.start, options.minimum), options.maximum))
        self._changed_at_s = float("-inf")
        # Of the window.
        self._window_began_s = clock()
        self._samples = 0
        self._sum_s = 0.0
        self._peak_tokens = 0

    @property
    def tokens(self) -> int:
        """The limit now."""
        return int(self._limit)

    def note_use(self, tokens: int) -> None:
        """Notes how many tokens are in flight, or would be with a request that was refused."""
        self._peak_tokens = max(self._peak_tokens, tokens)

    def observe(self, wait_s: float, admitted_s: float) -> None:
        """Takes the wait of one request; `admitted_s` is when it was admitted, in the time of the clock."""
        if admitted_s < self._changed_at_s:
            return
        self._samples += 1
        self._sum_s += wait_s
        now_s = self._clock()
        age_s = now_s - self._window_began_s
        if age_s >= WINDOW_S and (self._samples >= MIN_SAMPLES or age_s >= MAX_WINDOWS * WINDOW_S):
            self._adapt(now_s)

    def _adapt(self, now_s: float) -> None:
        wait_s, target_s = self._sum_s / self._samples, MEAN_SHARE * self._options.target_s
        if wait_s > target_s:
            # A limit far above what is in flight bounds nothing: the cut starts from what there is.
            in_use = min(self._limit, self._peak_tokens) if self._peak_tokens else self._limit
            self._limit = max(self._options.minimum, in_use * max(MOST_CUT, target_s / wait_s))
            self._changed_at_s = now_s
        elif self._peak_tokens >= USED_SHARE * self._limit:
            growth = 1 + MOST_GROWTH * (1 - wait_s / target_s)
            self._limit = min(self._options.maximum, self._limit * growth + 1)
            self._changed_at_s = now_s
        self._begin_window(now_s)

    def _begin_window(self, now_s: float) -> None:
        self._window_began_s = now_s
        self._samples = 0
        self._sum_s = 0.0
        self._peak_tokens = 0
