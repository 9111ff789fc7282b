"""What is computed from the tokens of a run and when they came.

Times of an answer are in seconds after the run began.
"""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.report import percentile
from benchmarks.systems.protocol import Answer, Request


@dataclass(frozen=True)
class DecodeFigures:
    """Streams that begin together."""

    tokens_per_second: float  # New tokens over the whole run, prompts included.
    decode_tokens_per_second: float  # While every stream has its first token and none has its last.
    time_to_first_token_p50_ms: float
    inter_token_p50_ms: float
    inter_token_p99_ms: float


@dataclass(frozen=True)
class PrefillFigures:
    """One prompt, with nothing else to do."""

    time_to_first_token_ms: float
    prefill_tokens_per_second: float


@dataclass(frozen=True)
class PrefixFigures:
    """Two prompts with one beginning, one after the other."""

    first_time_to_first_token_ms: float
    second_time_to_first_token_ms: float
    second_to_first: float


@dataclass(frozen=True)
class OpenLoopFigures:
    """Requests that arrive at their own times; every latency counts from the scheduled arrival."""

    requests: int
    failed: int
    tokens_per_second: float
    time_to_first_token_p50_ms: float
    time_to_first_token_p99_ms: float
    inter_token_p50_ms: float
    inter_token_p99_ms: float
    last_arrival_s: float
    drain_s: float  # From the last arrival to the last token: a queue that grew takes long to empty.


def gaps_s(answers: Sequence[Answer]) -> list[float]:
    """Between each token and the next of the same answer."""
    return [after - before for answer in answers for before, after in itertools.pairwise(answer.token_times_s)]


def decode_figures(answers: Sequence[Answer]) -> DecodeFigures:
    """Raises ValueError if a request failed or has fewer than two tokens."""
    for answer in answers:
        if answer.error or len(answer.token_times_s) < 2:
            raise ValueError(answer.error or "too few tokens")
    gaps = gaps_s(answers)
    return DecodeFigures(
        tokens_per_second=_count(answers) / max(answer.token_times_s[-1] for answer in answers),
        decode_tokens_per_second=_steady_rate(answers),
        time_to_first_token_p50_ms=1e3 * statistics.median(answer.token_times_s[0] for answer in answers),
        inter_token_p50_ms=1e3 * statistics.median(gaps),
        inter_token_p99_ms=1e3 * percentile(gaps, 0.99),
    )


def _count(answers: Sequence[Answer]) -> int:
    return sum(len(answer.token_times_s) for answer in answers)


def _steady_rate(answers: Sequence[Answer]) -> float:
    """Tokens a second while all streams decode; over the rest of the run if one ends before another begins."""
    begun = max(answer.token_times_s[0] for answer in answers)
    ended = min(answer.token_times_s[-1] for answer in answers)
    if ended <= begun:
        ended = max(answer.token_times_s[-1] for answer in answers)
    return sum(begun < time <= ended for answer in answers for time in answer.token_times_s) / (ended - begun)


def prefill_figures(request: Request, answer: Answer) -> PrefillFigures:
    """Raises ValueError if the request failed."""
    first_s = _first_token_s(answer)
    return PrefillFigures(1e3 * first_s, len(request.prompt) / first_s)


def prefix_figures(first: Answer, second: Answer) -> PrefixFigures:
    """Raises ValueError if a request failed."""
    first_s, second_s = _first_token_s(first), _first_token_s(second)
    return PrefixFigures(1e3 * first_s, 1e3 * second_s, second_s / first_s)


def _first_token_s(answer: Answer) -> float:
    if answer.error or not answer.token_times_s:
        raise ValueError(answer.error or "no token")
    return answer.token_times_s[0]


def open_loop_figures(requests: Sequence[Request], answers: Sequence[Answer]) -> OpenLoopFigures:
    """Raises ValueError if no request succeeded."""
    pairs = [pair for pair in zip(requests, answers, strict=True) if not pair[1].error and pair[1].token_times_s]
    if not pairs:
        raise ValueError(f"every request failed: {answers[0].error}")
    succeeded = [answer for _, answer in pairs]
    waits = [answer.token_times_s[0] - request.arrival_s for request, answer in pairs]
    gaps = gaps_s(succeeded)
    ended = max(answer.token_times_s[-1] for answer in succeeded)
    last_arrival_s = max(request.arrival_s for request in requests)
    return OpenLoopFigures(
        requests=len(requests),
        failed=len(requests) - len(pairs),
        tokens_per_second=_count(succeeded) / ended,
        time_to_first_token_p50_ms=1e3 * statistics.median(waits),
        time_to_first_token_p99_ms=1e3 * percentile(waits, 0.99),
        inter_token_p50_ms=1e3 * statistics.median(gaps),
        inter_token_p99_ms=1e3 * percentile(gaps, 0.99),
        last_arrival_s=last_arrival_s,
        drain_s=ended - last_arrival_s,
    )
