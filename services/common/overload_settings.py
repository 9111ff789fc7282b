"""Settings of what happens when there is more work than can be done."""

from dataclasses import dataclass
from typing import Protocol

from services.common.adaptive_limit import LimitOptions
from services.common.admission import AdmissionOptions
from services.common.setting import setting

_TARGET_DOC = (
    "Longest wait for {what} that nearly all calls should have: the limit on tokens in flight of each model falls when"
    " their mean is above 0.7 of it, and rises again below. 0 keeps it at the most of the process."
)
_MIN_DOC = "Fewest tokens in flight of a model that long waits lead to."


@dataclass(frozen=True)
class OverloadSettings:
    """What all services share."""

    retry_after_max_ms: int = setting(
        10_000,
        "RETRY_AFTER_MAX_MS",
        doc="Longest wait that an OVERLOADED answer asks of the client; it grows from the shortest with the overload.",
        minimum=1,
        maximum=600_000,
    )
    write_stall_timeout_ms: int = setting(
        30_000,
        "WRITE_STALL_TIMEOUT_MS",
        doc="Longest time that a stream waits for its client to read; then it ends with OVERLOADED.",
        minimum=100,
        maximum=3_600_000,
    )


@dataclass(frozen=True)
class TokenizationLimitSettings:
    """Work in flight of the tokenization service."""

    max_inflight_tokens: int = setting(
        4_194_304,
        "TOKENIZATION_MAX_INFLIGHT_TOKENS",
        doc="Most tokens of requests in flight, estimated from the size of their messages; more is refused with"
        " OVERLOADED. A single request may exceed it when nothing else is in flight.",
        minimum=1,
        maximum=1_000_000_000,
    )
    max_inflight_requests: int = setting(
        256,
        "TOKENIZATION_MAX_INFLIGHT_REQUESTS",
        doc="Most requests in flight; more is refused with OVERLOADED.",
        minimum=1,
        maximum=100_000,
    )
    min_inflight_tokens: int = setting(
        65_536, "TOKENIZATION_MIN_INFLIGHT_TOKENS", doc=_MIN_DOC, minimum=1, maximum=1_000_000_000
    )
    queue_target_ms: int = setting(
        500,
        "TOKENIZATION_QUEUE_TARGET_MS",
        doc=_TARGET_DOC.format(what="a thread that tokenizes"),
        minimum=0,
        maximum=60_000,
    )


@dataclass(frozen=True)
class GenerationLimitSettings:
    """How the limit of a decoder moves."""

    min_inflight_tokens: int = setting(
        1_024, "GENERATION_MIN_INFLIGHT_TOKENS", doc=_MIN_DOC, minimum=1, maximum=1_000_000_000
    )
    queue_target_ms: int = setting(
        2_000,
        "GENERATION_QUEUE_TARGET_MS",
        doc=_TARGET_DOC.format(what="the first token, beyond what the prompt takes alone,"),
        minimum=0,
        maximum=60_000,
    )


@dataclass(frozen=True)
class ClassificationLimitSettings:
    """How the limit of an encoder moves."""

    min_inflight_tokens: int = setting(
        1_024, "CLASSIFICATION_MIN_INFLIGHT_TOKENS", doc=_MIN_DOC, minimum=1, maximum=1_000_000_000
    )
    queue_target_ms: int = setting(
        1_000, "CLASSIFICATION_QUEUE_TARGET_MS", doc=_TARGET_DOC.format(what="the engine"), minimum=0, maximum=60_000
    )


class _Limits(Protocol):
    """The settings of a service that say how much it takes."""

    @property
    def max_inflight_requests(self) -> int: ...
    @property
    def max_inflight_tokens(self) -> int: ...
    @property
    def min_inflight_tokens(self) -> int: ...
    @property
    def queue_target_ms(self) -> int: ...
    @property
    def retry_after_ms(self) -> int: ...
    @property
    def retry_after_max_ms(self) -> int: ...


_START_SHARE = 4  # a limit starts at one part in so many of the most: a first burst must not fill the queue for long


def admission_options(settings: _Limits) -> AdmissionOptions:
    """The bounds that the settings ask for."""
    most = settings.max_inflight_tokens
    model_limit = None
    if settings.queue_target_ms:
        least = min(settings.min_inflight_tokens, most)
        model_limit = LimitOptions(least, most, most // _START_SHARE, settings.queue_target_ms / 1000)
    return AdmissionOptions(
        settings.max_inflight_requests, most, settings.retry_after_ms, settings.retry_after_max_ms, model_limit
    )
