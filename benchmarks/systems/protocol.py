"""What the driver and a system's process say to each other: one JSON object a line, one answer a message.

The driver sends `{"op": "load", "options": {...}}`, then any number of `run` messages (to decoders) or `tune` and
`embed` messages (to encoders), then `{"op": "quit"}`. An answer is `{"ok": true, ...}` or
`{"ok": false, "error": "..."}`. Nothing but the standard library is imported here: the other side runs in the peer's
own environment.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable


@dataclass(frozen=True)
class Request:
    """One greedy continuation of exactly `new_tokens` tokens, the end-of-text token ignored."""

    prompt: tuple[int, ...]
    new_tokens: int
    arrival_s: float = 0.0  # When it is to be sent, in seconds after the run begins.

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Request:
        """From JSON."""
        return cls(tuple(fields["prompt"]), int(fields["new_tokens"]), float(fields["arrival_s"]))


@dataclass
class Answer:
    """The tokens of one request; times are in seconds after the run began, one a token."""

    tokens: list[int] = field(default_factory=list)
    token_times_s: list[float] = field(default_factory=list)
    error: str = ""  # Why there are no more tokens; empty if there are as many as were asked for.

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Answer:
        """From JSON."""
        return cls(list(fields["tokens"]), [float(time) for time in fields["token_times_s"]], str(fields["error"]))

    def add(self, tokens: Sequence[int], when_s: float) -> None:
        """Appends tokens that came together."""
        self.tokens += tokens
        self.token_times_s += [when_s] * len(tokens)


@dataclass(frozen=True)
class About:
    """What a system says of itself once it is loaded."""

    versions: dict[str, str]
    weights: str  # Precision of the weights, and of what they are multiplied with.
    weight_bytes: int  # Of a decoder: read for each token of one stream.
    kv_cache: str  # Empty for an encoder.
    settings: str  # What differs from the defaults.

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> About:
        """From JSON."""
        return cls(**fields)


@dataclass(frozen=True)
class EmbedRequest:
    """Texts to embed, in the order in which they arrive."""

    texts: tuple[str, ...]
    clients: int = 0  # That each send one text, wait for its vector and send the next; 0: all texts at once.
    by_length: bool = False  # Whether the texts come in the order of their lengths.
    keep_vectors: bool = False

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> EmbedRequest:
        """From JSON."""
        return cls(tuple(fields["texts"]), fields["clients"], fields["by_length"], fields["keep_vectors"])


@dataclass
class Embedded:
    """What became of an EmbedRequest."""

    seconds: float
    latencies_s: list[float] = field(default_factory=list)  # One a text, unless all were sent at once.
    vectors: list[list[float]] = field(default_factory=list)  # One a text, in the order of the request, if asked for.

    @classmethod
    def parse(cls, fields: dict[str, Any]) -> Embedded:
        """From JSON."""
        return cls(**fields)


class Unsupported(Exception):  # noqa: N818 - a plain answer, not a fault
    """The system cannot do what it was asked for; the message says why."""


class Adapter(Protocol):
    """One system in its own process."""

    def load(self, options: dict[str, Any]) -> About:
        """Makes it ready to serve. Raises whatever its library raises."""

    def close(self) -> None:
        """Ends every process that it started."""


@runtime_checkable
class DecoderAdapter(Adapter, Protocol):
    """A system that generates."""

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """Serves the requests, each at its time; `reuse_prefix` lets it use work on earlier prompts.

        Raises Unsupported.
        """


@runtime_checkable
class EncoderAdapter(Adapter, Protocol):
    """A system that embeds."""

    def tune(self, texts: Sequence[str], *, by_length: bool) -> str:
        """Tries its settings on texts that come together, keeps the fastest for that order and says which it is."""

    def embed(self, request: EmbedRequest) -> Embedded:
        """Embeds the texts. Raises Unsupported."""


def run_message(requests: Sequence[Request], *, reuse_prefix: bool) -> dict[str, Any]:
    """What asks for a run."""
    return {"op": "run", "requests": [asdict(request) for request in requests], "reuse_prefix": reuse_prefix}


def answer_to(adapter: Adapter, message: dict[str, Any]) -> dict[str, Any]:
    """Carries out one message. Raises whatever the adapter raises, ValueError for an operation that it has not."""
    match message["op"]:
        case "load":
            return {"about": asdict(adapter.load(message["options"]))}
        case "run" if isinstance(adapter, DecoderAdapter):
            requests = [Request.parse(fields) for fields in message["requests"]]
            answers = adapter.run(requests, reuse_prefix=bool(message["reuse_prefix"]))
            return {"answers": [asdict(answer) for answer in answers]}
        case "tune" if isinstance(adapter, EncoderAdapter):
            return {"chosen": adapter.tune(message["texts"], by_length=bool(message["by_length"]))}
        case "embed" if isinstance(adapter, EncoderAdapter):
            return {"embedded": asdict(adapter.embed(EmbedRequest.parse(message)))}
        case other:
            raise ValueError(f"no operation {other!r}")


def encode(message: dict[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message).encode() + b"\n"
