"""What a generation yields, in this order: Started, Deltas, a Finished for each completion, Summary; free of gRPC."""

from dataclasses import dataclass, field
from enum import StrEnum


class FinishReason(StrEnum):
    """Why a completion ended; the values are the engine's words and the metric's labels."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True)
class TokenLogprob:
    """One token, its text, and the natural logarithm of its probability."""

    token_id: int
    token: str
    logprob: float


@dataclass(frozen=True)
class PositionLogprobs:
    """The token at one position and the most probable ones there, best first."""

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class Started:
    """The request was accepted."""

    prompt_tokens: int


@dataclass(slots=True)
class Delta:
    """New text, tokens and log-probabilities of completion `index`; any of them may be empty."""

    index: int
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[PositionLogprobs] = field(default_factory=list)


@dataclass(frozen=True)
class Finished:
    """Completion `index` ended; at most one of the two stops is set. `safety_rules` are those that found something."""

    index: int
    reason: FinishReason
    stop_text: str | None = None
    stop_token_id: int | None = None
    safety_rules: tuple[str, ...] = ()


@dataclass(frozen=True)
class Usage:
    """Tokens that the request cost."""

    prompt_tokens: int
    cached_prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Timings:
    """Where the time went, each in microseconds; of several completions the slowest."""

    queue_us: int = 0
    prefill_us: int = 0
    decode_us: int = 0
    time_to_first_token_us: int = 0


@dataclass(frozen=True)
class Summary:
    """All completions ended."""

    usage: Usage
    timings: Timings


Event = Started | Delta | Finished | Summary


@dataclass
class Completion:
    """One whole completion."""

    index: int
    finished: Finished
    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[PositionLogprobs] = field(default_factory=list)


@dataclass(frozen=True)
class GenerationResult:
    """Answer of a generation that was not streamed."""

    completions: list[Completion]
    summary: Summary


@dataclass(frozen=True)
class ScoreResult:
    """Entry i of `logprobs` belongs to token i + 1; perplexity is 0 when there is none."""

    token_ids: list[int]
    logprobs: list[PositionLogprobs]
    total_logprob: float
    perplexity: float
    usage: Usage
    timings: Timings
