"""sync_client.py for asyncio."""

from collections.abc import Awaitable
from types import TracebackType
from typing import Any, Self

import grpc
from naiad.v1 import classification_pb2 as classification_pb
from naiad.v1 import classification_pb2_grpc, generation_pb2_grpc, tokenization_pb2_grpc
from naiad.v1 import generation_pb2 as generation_pb
from naiad.v1 import tokenization_pb2 as tokenization_pb

from services.client.aio_calls import AioCheckedChannel


class AioClient:
    """One channel to one service, or to several behind one address.

    `generation`, `classification` and `tokenization` are the generated stubs: for calls with a deadline or metadata of
    their own, and for streams of requests. Everything raises CallError.
    """

    def __init__(self, channel: AioCheckedChannel) -> None:
        self.channel = channel
        stubs_channel: Any = channel  # has what stubs use of grpc.aio's
        self.generation: generation_pb2_grpc.GenerationServiceAsyncStub = generation_pb2_grpc.GenerationServiceStub(
            stubs_channel
        )
        self.classification: classification_pb2_grpc.ClassificationServiceAsyncStub = (
            classification_pb2_grpc.ClassificationServiceStub(stubs_channel)
        )
        self.tokenization: tokenization_pb2_grpc.TokenizationServiceAsyncStub = (
            tokenization_pb2_grpc.TokenizationServiceStub(stubs_channel)
        )

    def generate(self, **fields: Any) -> Awaitable[generation_pb.GenerateResponse]:
        """Continues a prompt."""
        return self.generation.Generate(generation_pb.GenerateRequest(**fields))

    def stream(
        self, **fields: Any
    ) -> "grpc.aio.UnaryStreamCall[generation_pb.GenerateStreamRequest, generation_pb.GenerateStreamResponse]":
        """Continues a prompt; text comes as it appears. `cancel()` the call to end the work."""
        return self.generation.GenerateStream(generation_pb.GenerateStreamRequest(**fields))

    def score(self, **fields: Any) -> Awaitable[generation_pb.ScoreResponse]:
        """Log-probabilities of a text's tokens."""
        return self.generation.Score(generation_pb.ScoreRequest(**fields))

    def classify(self, **fields: Any) -> Awaitable[classification_pb.ClassifyResponse]:
        """Scores of labels."""
        return self.classification.Classify(classification_pb.ClassifyRequest(**fields))

    def classify_tokens(self, **fields: Any) -> Awaitable[classification_pb.ClassifyTokensResponse]:
        """Entities in texts."""
        return self.classification.ClassifyTokens(classification_pb.ClassifyTokensRequest(**fields))

    def classify_zero_shot(self, **fields: Any) -> Awaitable[classification_pb.ClassifyZeroShotResponse]:
        """Scores of the caller's own labels."""
        return self.classification.ClassifyZeroShot(classification_pb.ClassifyZeroShotRequest(**fields))

    def explain(self, **fields: Any) -> Awaitable[classification_pb.ExplainResponse]:
        """Which words moved a score."""
        return self.classification.Explain(classification_pb.ExplainRequest(**fields))

    def embed(self, **fields: Any) -> Awaitable[classification_pb.EmbedResponse]:
        """Vectors of texts."""
        return self.classification.Embed(classification_pb.EmbedRequest(**fields))

    def rerank(self, **fields: Any) -> Awaitable[classification_pb.RerankResponse]:
        """Documents by how well they answer a query."""
        return self.classification.Rerank(classification_pb.RerankRequest(**fields))

    def tokenize(self, **fields: Any) -> Awaitable[tokenization_pb.TokenizeResponse]:
        """Tokens of texts."""
        return self.tokenization.Tokenize(tokenization_pb.TokenizeRequest(**fields))

    def detokenize(self, **fields: Any) -> Awaitable[tokenization_pb.DetokenizeResponse]:
        """Texts of token ids."""
        return self.tokenization.Detokenize(tokenization_pb.DetokenizeRequest(**fields))

    def count_tokens(self, **fields: Any) -> Awaitable[tokenization_pb.CountTokensResponse]:
        """Number of tokens of texts."""
        return self.tokenization.CountTokens(tokenization_pb.CountTokensRequest(**fields))

    def apply_chat_template(self, **fields: Any) -> Awaitable[tokenization_pb.ApplyChatTemplateResponse]:
        """A conversation as the model reads it."""
        return self.tokenization.ApplyChatTemplate(tokenization_pb.ApplyChatTemplateRequest(**fields))

    async def close(self) -> None:
        """Ends all calls."""
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
