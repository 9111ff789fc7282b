"""Calls of every kind that clients make, at random, through the gRPC services."""

import random
from collections.abc import Callable

import grpc
from naiad.v1 import classification_pb2, classification_pb2_grpc, generation_pb2, generation_pb2_grpc

from benchmarks.workloads import texts
from tests.support.stack import Stack

_WORDS = " ".join(texts(64)).split()
_TIMEOUT_S = 600
_SCHEMA = (
    '{"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}, "stars": {"type": "integer", '
    '"minimum": 1, "maximum": 5}}, "required": ["city", "stars"], "additionalProperties": false}'
)

Call = Callable[[random.Random], None]


class SoakTraffic:
    """One method a kind of call; each returns when its call has ended, and raises grpc.RpcError if it failed."""

    def __init__(self, stack: Stack) -> None:
        self._generation = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
        self._classification = classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))

    def kinds(self) -> dict[str, Call]:
        """All kinds by name."""
        return {
            "short": self.short,
            "long": self.long,
            "chat": self.chat,
            "several": self.several,
            "stopped": self.stopped,
            "guided": self.guided,
            "classify": self.classify,
            "embed": self.embed,
        }

    def short(self, chance: random.Random) -> None:
        """A few words of text, sampled."""
        request = generation_pb2.GenerateRequest(
            model="chat", text=_text(chance, 1, 12), priority=chance.randint(-3, 3)
        )
        request.stopping.max_tokens = chance.randint(1, 24)
        self._generation.Generate(request, timeout=_TIMEOUT_S)

    def long(self, chance: random.Random) -> None:
        """A streamed answer to a long prompt."""
        request = generation_pb2.GenerateStreamRequest(model="chat", text=_text(chance, 200, 600))
        request.stopping.max_tokens, request.stopping.ignore_eos = 48, True
        list(self._generation.GenerateStream(request, timeout=_TIMEOUT_S))

    def chat(self, chance: random.Random) -> None:
        """A conversation of a few turns, each with all before it."""
        request = generation_pb2.GenerateRequest(model="chat")
        request.chat.messages.add(role="system", content=_text(chance, 20, 40))
        request.stopping.max_tokens = 20
        for _ in range(chance.randint(2, 4)):
            request.chat.messages.add(role="user", content=_text(chance, 3, 20))
            answer = self._generation.Generate(request, timeout=_TIMEOUT_S)
            request.chat.messages.add(role="assistant", content=answer.completions[0].text)

    def several(self, chance: random.Random) -> None:
        """Several completions of one prompt, some with log-probabilities."""
        request = generation_pb2.GenerateRequest(model="chat", text=_text(chance, 5, 60))
        request.sampling.n = chance.randint(2, 4)
        request.stopping.max_tokens = 16
        request.response.logprobs = chance.random() < 0.5
        self._generation.Generate(request, timeout=_TIMEOUT_S)

    def stopped(self, chance: random.Random) -> None:
        """A stream that its client leaves after a few events."""
        request = generation_pb2.GenerateStreamRequest(model="chat", text=_text(chance, 5, 100))
        request.stopping.max_tokens, request.stopping.ignore_eos = 200, True
        call = self._generation.GenerateStream(request, timeout=_TIMEOUT_S)
        for _ in range(chance.randint(0, 10)):
            next(call)
        call.cancel()

    def guided(self, chance: random.Random) -> None:
        """A document that fits a schema."""
        request = generation_pb2.GenerateRequest(model="chat", text=_text(chance, 5, 20))
        request.guide.json_schema = _SCHEMA
        request.stopping.max_tokens = 40
        self._generation.Generate(request, timeout=_TIMEOUT_S)

    def classify(self, chance: random.Random) -> None:
        """A batch of texts of mixed lengths."""
        request = classification_pb2.ClassifyRequest(model="sentiment", texts=_batch(chance))
        self._classification.Classify(request, timeout=_TIMEOUT_S)

    def embed(self, chance: random.Random) -> None:
        """A batch of texts of mixed lengths."""
        request = classification_pb2.EmbedRequest(model="embed", texts=_batch(chance))
        self._classification.Embed(request, timeout=_TIMEOUT_S)


def _text(chance: random.Random, least_words: int, most_words: int) -> str:
    return " ".join(chance.choices(_WORDS, k=chance.randint(least_words, most_words)))


def _batch(chance: random.Random) -> list[str]:
    return [_text(chance, 2, 80) for _ in range(chance.randint(1, 16))]


def outcome_of(call: Call, chance: random.Random) -> str:
    """Makes the call; "OK" or the name of the status with which it failed."""
    try:
        call(chance)
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"
