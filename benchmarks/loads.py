"""The loads that every system is put under, one after the other, round by round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from benchmarks.figures import decode_figures, open_loop_figures, prefill_figures, prefix_figures
from benchmarks.systems.protocol import Answer, Request, run_message
from benchmarks.workloads import (
    DECODE_TOKENS,
    NEW_TOKENS,
    PROMPT_TOKENS,
    STREAM_COUNTS,
    poisson_arrivals,
    prompts,
)

Ask = Callable[[dict[str, Any]], dict[str, Any]]
Figures = dict[str, float]
OWN_TOKENS = 20  # Of each of two prompts that begin alike.
FEW_TOKENS = 4  # Where only the first one is timed.


class Load(Protocol):
    """One kind of work."""

    @property
    def name(self) -> str:
        """For tables and reports; the same in every round."""

    @property
    def kind(self) -> str:
        """What `--loads` selects."""

    def measure(self, ask: Ask, variant: str) -> Figures:
        """Puts it on one system. `variant`: work that no earlier round had. Raises ValueError if a request failed."""


def run(ask: Ask, requests: Sequence[Request], *, reuse_prefix: bool = False) -> list[Answer]:
    """Has a system serve the requests."""
    answer = ask(run_message(requests, reuse_prefix=reuse_prefix))
    return [Answer.parse(fields) for fields in answer["answers"]]


@dataclass(frozen=True)
class Decode:
    """Streams that begin together, of PROMPT_TOKENS and `new_tokens` each."""

    streams: int
    new_tokens: int = DECODE_TOKENS
    kind: str = "decode"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return f"decode, {self.streams} stream{'s' if self.streams > 1 else ''}"

    def measure(self, ask: Ask, variant: str) -> Figures:
        """All at once."""
        work = prompts(self.streams, variant=f"{self.name} {variant}")
        return asdict(decode_figures(run(ask, [Request(tuple(prompt), self.new_tokens) for prompt in work])))


@dataclass(frozen=True)
class Prefill:
    """One prompt."""

    prompt_tokens: int
    kind: str = "prefill"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return f"prefill, {self.prompt_tokens} tokens"

    def measure(self, ask: Ask, variant: str) -> Figures:
        """Its time to first token."""
        (prompt,) = prompts(1, self.prompt_tokens, f"{self.name} {variant}")
        request = Request(tuple(prompt), FEW_TOKENS)
        return asdict(prefill_figures(request, *run(ask, [request])))


@dataclass(frozen=True)
class SharedPrefix:
    """A prompt, and then another one with the same beginning."""

    prefix_tokens: int
    kind: str = "prefix"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return f"shared prefix, {self.prefix_tokens} tokens"

    def measure(self, ask: Ask, variant: str) -> Figures:
        """The times to first token of both."""
        (prefix,) = prompts(1, self.prefix_tokens, f"{self.name} {variant}")
        answers = []
        for own in prompts(2, OWN_TOKENS, f"own {variant}"):
            answers += run(ask, [Request((*prefix, *own), FEW_TOKENS)], reuse_prefix=True)
        return asdict(prefix_figures(*answers))


@dataclass(frozen=True)
class OpenLoop:
    """Requests of PROMPT_TOKENS and NEW_TOKENS that arrive as they come, whatever became of those before."""

    per_second: float
    duration_s: float
    kind: str = "open"

    @property
    def name(self) -> str:
        """For tables and reports."""
        return f"open loop, {self.per_second:g} requests/s"

    def measure(self, ask: Ask, variant: str) -> Figures:
        """Latencies from the scheduled arrivals."""
        arrivals = poisson_arrivals(self.per_second, self.duration_s, variant)
        work = prompts(len(arrivals), variant=f"{self.name} {variant}")
        requests = [Request(tuple(prompt), NEW_TOKENS, arrival) for prompt, arrival in zip(work, arrivals, strict=True)]
        return asdict(open_loop_figures(requests, run(ask, requests)))


def all_loads(*, quick: bool) -> list[Load]:
    """In the order of the tables."""
    rates, duration_s = ((2.0, 4.0, 6.0), 6.0) if quick else ((1.0, 2.0, 4.0, 6.0, 8.0), 10.0)
    return [
        *(Decode(streams) for streams in STREAM_COUNTS),
        *(Prefill(tokens) for tokens in (PROMPT_TOKENS, 512, 2000)),
        SharedPrefix(1000),
        *(OpenLoop(rate, duration_s) for rate in rates),
    ]
