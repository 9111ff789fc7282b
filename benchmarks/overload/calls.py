"""The calls that the load consists of: prompts to continue, and texts to classify."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any, Protocol

import grpc
from naiad.v1 import classification_pb2, classification_pb2_grpc, common_pb2, generation_pb2, generation_pb2_grpc

from benchmarks.encoders.texts import SPECIAL_TOKENS, recorded_lengths
from tests.support.stack import Stack

PROMPT_TOKENS = 64
NEW_TOKENS = 32
TEXTS_A_CALL = 16
_WORDS = ("the", "film", "was", "not", "what", "i", "had", "hoped", "for", "but", "its", "actors", "are", "good")
_NO_RETRIES = (("grpc.enable_retries", 0),)  # whoever tries again would hide what was refused


@dataclass(frozen=True)
class Answer:
    """When the first part of an answer came, in the time of time.monotonic, and its tokens: new, or of the texts."""

    first_s: float
    work: int


class Calls(Protocol):
    """One kind of call. `service` is whose it is."""

    service: str

    async def __call__(self, number: int, /) -> Answer:
        """Makes the call of this number. Raises grpc.aio.AioRpcError."""


class ChatCalls:
    """Streams of a fixed number of tokens, of prompts with no beginning in common."""

    service = "generation"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = generation_pb2_grpc.GenerationServiceStub(channel)
        self._chance = random.Random(3)

    async def __call__(self, _: int) -> Answer:
        ids = [self._chance.randrange(300, 30_000) for _ in range(PROMPT_TOKENS)]
        request = generation_pb2.GenerateStreamRequest(model="chat", token_ids=common_pb2.TokenIds(ids=ids))
        request.stopping.max_tokens, request.stopping.ignore_eos = NEW_TOKENS, True
        first_s, tokens = 0.0, 0
        async for event in self._stub.GenerateStream(request):
            if event.HasField("delta") and not first_s:
                first_s = time.monotonic()
            elif event.HasField("summary"):
                tokens = event.summary.usage.completion_tokens
        return Answer(first_s, tokens)


class ClassifyCalls:
    """Batches of texts of recorded lengths. Which of them are refused is chance, so what counts is their tokens."""

    service = "classification"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = classification_pb2_grpc.ClassificationServiceStub(channel)
        chance = random.Random(3)
        texts = [" ".join(chance.choices(_WORDS, k=max(1, length - SPECIAL_TOKENS))) for length in recorded_lengths()]
        chance.shuffle(texts)
        starts = range(0, len(texts) - TEXTS_A_CALL, TEXTS_A_CALL)
        self._requests = [
            classification_pb2.ClassifyRequest(model="sentiment", texts=texts[start : start + TEXTS_A_CALL])
            for start in starts
        ]

    async def __call__(self, number: int) -> Answer:
        request = self._requests[number % len(self._requests)]
        await self._stub.Classify(request)
        # Each of _WORDS is one token.
        return Answer(time.monotonic(), sum(len(text.split()) + SPECIAL_TOKENS for text in request.texts))


KINDS: dict[str, type[ChatCalls] | type[ClassifyCalls]] = {"chat": ChatCalls, "classification": ClassifyCalls}


def open_channel(stack: Stack, service: str) -> Any:
    """A channel of the load's own."""
    return grpc.aio.insecure_channel(stack.address(service), options=_NO_RETRIES)
