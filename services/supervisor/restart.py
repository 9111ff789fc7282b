"""How long to wait before a child is started again, and when to give up."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class RestartPolicy:
    """Delays double from `first_delay_s` to `longest_delay_s`; `most_deaths` within `window_s` seconds end it."""

    first_delay_s: float = 0.5
    longest_delay_s: float = 15.0
    most_deaths: int = 5
    window_s: float = 60.0


class RestartHistory:
    """Deaths of one child."""

    def __init__(self, policy: RestartPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._clock = clock
        self._deaths: deque[float] = deque()

    def record_death(self) -> float | None:
        """Notes a death now. Seconds to wait before the next start, or None when it died too often to try again."""
        now = self._clock()
        while self._deaths and now - self._deaths[0] > self._policy.window_s:
            self._deaths.popleft()
        self._deaths.append(now)
        if len(self._deaths) >= self._policy.most_deaths:
            return None
        return min(self._policy.first_delay_s * 2.0 ** (len(self._deaths) - 1), self._policy.longest_delay_s)
