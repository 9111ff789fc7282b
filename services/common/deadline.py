"""The deadline of a call on its way to the engine, and what is known about whether work can be done before it."""

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable
from statistics import median

from services.common.errors import NaiadError, Reason
from services.common.infer_reply import ParameterValue

TIMEOUT_PARAMETER = "timeout_us"
MAX_TIMEOUT_S = 86_400.0  # what the engine takes; a later deadline is none

KEPT_TIMES = 64
MIN_TIMES = 8
KEPT_S = 10.0


def deadline_exceeded() -> NaiadError:
    """DEADLINE_EXCEEDED, as every caller words it."""
    return NaiadError(Reason.DEADLINE_EXCEEDED, "the deadline has passed")


def timeout_parameter(deadline_s: float | None) -> dict[str, ParameterValue]:
    """The parameter that tells the engine how long a request has. Raises DEADLINE_EXCEEDED when it is too late.

    The engine ends what is late by itself, even if this process is gone.
    """
    if deadline_s is None:
        return {}
    remaining_s = deadline_s - asyncio.get_running_loop().time()
    if remaining_s <= 0:
        raise deadline_exceeded()
    return {TIMEOUT_PARAMETER: max(1, int(remaining_s * 1e6))} if remaining_s < MAX_TIMEOUT_S else {}


def less_time(timeout_us: ParameterValue, passed_s: float) -> int:
    """The parameter of a request that is sent once more, so long after the first time."""
    return max(1, int(timeout_us) - int(passed_s * 1e6))


class RecentTimes:
    """How long work took of late, by its size: sizes within a factor of two count as the same.

    Times older than ten seconds are forgotten, so that refusals cannot outlast their reason: without new times nothing
    is refused.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._times: dict[int, deque[tuple[float, float]]] = {}

    def add(self, size: int, duration_s: float) -> None:
        """Takes the time of one piece of work."""
        kept = self._times.setdefault(_class_of(size), deque(maxlen=KEPT_TIMES))
        kept.append((self._clock(), duration_s))

    def median_s(self, size: int) -> float | None:
        """What work of this size takes; None as long as too little is known."""
        kept = self._times.get(_class_of(size), ())
        oldest_s = self._clock() - KEPT_S
        recent = [duration_s for at_s, duration_s in kept if at_s >= oldest_s]
        return median(recent) if len(recent) >= MIN_TIMES else None

    def check(self, size: int, deadline_s: float | None) -> None:
        """Raises DEADLINE_EXCEEDED when work of this size usually takes longer than there is time.

        `deadline_s` is in the time of the event loop.
        """
        if deadline_s is None:
            return
        remaining_s = deadline_s - asyncio.get_running_loop().time()
        if remaining_s <= 0:
            raise deadline_exceeded()
        needed_s = self.median_s(size)
        if needed_s is not None and remaining_s < needed_s:
            message = f"the {_ms(remaining_s)} that are left are less than the {_ms(needed_s)} that it takes now"
            raise NaiadError(Reason.DEADLINE_EXCEEDED, message)


def _class_of(size: int) -> int:
    return int(math.log2(max(1, size)))


def _ms(duration_s: float) -> str:
    return f"{duration_s * 1000:.0f} ms"
