"""The fixed work that every system under measurement does, and how its answers are timed."""

import random
import statistics
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

PROMPT_TOKENS = 64
NEW_TOKENS = 64
STREAM_COUNTS = (1, 8, 32)
_SEED = 20_241_124
# Word counts of the texts to embed: mean 32, a long tail, as sentences and paragraphs come in real traffic.
_WORD_COUNTS = (3, 5, 8, 8, 12, 12, 15, 20, 25, 30, 40, 60, 80, 140)
_SENTENCE = (
    "the harbour lay quiet under a low grey sky and boats moved slowly between piers while people spoke of weather "
    "prices schools music trains winter bread letters friends rivers markets and the long road north"
)
_WORDS = _SENTENCE.split()


def prompts(count: int) -> list[list[int]]:
    """`count` prompts of PROMPT_TOKENS ordinary token ids each; the same at every call."""
    chooser = random.Random(_SEED)
    return [[chooser.randrange(300, 30_000) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def texts(count: int) -> list[str]:
    """`count` texts of mixed lengths in arrival order; the same at every call."""
    chooser = random.Random(_SEED)
    return [" ".join(chooser.choices(_WORDS, k=chooser.choice(_WORD_COUNTS))) for _ in range(count)]


@dataclass(frozen=True)
class StreamTiming:
    """When the pieces of one answer arrived, in seconds since its request was sent."""

    token_times_s: tuple[float, ...]

    @property
    def time_to_first_token_s(self) -> float:
        """Until the first new token."""
        return self.token_times_s[0]

    @property
    def gaps_s(self) -> list[float]:
        """Between each token and the next."""
        return [after - before for before, after in zip(self.token_times_s, self.token_times_s[1:], strict=False)]


@dataclass(frozen=True)
class LoadResult:
    """What one run of a load gave."""

    tokens_per_second: float
    time_to_first_token_p50_ms: float
    inter_token_p50_ms: float
    inter_token_p99_ms: float


def time_stream(tokens: Iterable[int]) -> StreamTiming:
    """Consumes counts of new tokens as they arrive and notes when."""
    begun = time.perf_counter()
    times: list[float] = []
    for count in tokens:
        times += [time.perf_counter() - begun] * count
    return StreamTiming(tuple(times))


def run_streams(stream: Callable[[list[int]], Iterable[int]], count: int) -> LoadResult:
    """Runs `count` streams at once, one thread each, and sums up."""
    work = prompts(count)
    begun = time.perf_counter()
    with ThreadPoolExecutor(count) as pool:
        timings = list(pool.map(lambda prompt: time_stream(stream(prompt)), work))
    seconds = time.perf_counter() - begun
    gaps = sorted(gap for timing in timings for gap in timing.gaps_s)
    return LoadResult(
        tokens_per_second=sum(len(timing.token_times_s) for timing in timings) / seconds,
        time_to_first_token_p50_ms=1e3 * statistics.median(timing.time_to_first_token_s for timing in timings),
        inter_token_p50_ms=1e3 * statistics.median(gaps),
        inter_token_p99_ms=1e3 * gaps[int(0.99 * (len(gaps) - 1))],
    )
