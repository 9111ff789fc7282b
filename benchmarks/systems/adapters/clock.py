"""The clock of one run, and requests in the order in which they arrive."""

from __future__ import annotations

import time
from collections.abc import Sequence

from benchmarks.systems.protocol import Request, Unsupported


class RunClock:
    """Seconds since the run began."""

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def now_s(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._begun

    def wait_until(self, when_s: float) -> None:
        """Sleeps until then; returns at once if it is past."""
        time.sleep(max(0.0, when_s - self.now_s()))


def one_batch(requests: Sequence[Request], engine: str) -> tuple[list[list[int]], int]:
    """The prompts and the number of new tokens of requests that can run as one static batch.

    Raises Unsupported if they do not come together, or differ in length.
    """
    if any(request.arrival_s > 0 for request in requests):
        raise Unsupported(f"{engine} computes one batch at a time: requests cannot join it")
    shapes = {(len(request.prompt), request.new_tokens) for request in requests}
    if len(shapes) != 1:
        raise Unsupported(f"prompts of {len(shapes)} shapes do not make one batch")
    return [list(request.prompt) for request in requests], requests[0].new_tokens
