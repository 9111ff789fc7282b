"""The RPCs of all services as methods. Arguments are the fields of the request message; submessages may be dicts."""

from types import TracebackType
from typing import Any, Self, cast

from naiad.v1 import classification_pb2 as classification_pb
from naiad.v1 import classification_pb2_grpc, generation_pb2_grpc, tokenization_pb2_grpc
from naiad.v1 import generation_pb2 as generation_pb
from naiad.v1 import tokenization_pb2 as tokenization_pb

from services.client.calls import Call, CheckedChannel


class Client:
    """One channel to one service, or to several behind one address.

    `generation`, `classification` and `tokenization` are the generated stubs: for calls with a deadline or metadata of
    their own, and for streams of requests. Everything raises CallError.
    """

    def __init__(self, channel: CheckedChannel) -> None:
        self.channel = channel
        self.generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self.classification = classification_pb2_grpc.ClassificationServiceStub(channel)
        self.tokenization = tokenization_pb2_grpc.TokenizationServiceStub(channel)

    def generate(self, **fields: Any) -> generation_pb.GenerateResponse:
        """Continues a prompt."""
        return self.generation.Generate(generation_pb.GenerateRequest(**fields))

    def stream(self, **fields: Any) -> Call[generation_pb.GenerateStreamResponse]:
        """Continues a prompt; text comes as it appears. `cancel()` the call to end the work."""
        call: Any = self.generation.GenerateStream(generation_pb.GenerateStreamRequest(**fields))
        return cast(Call[generation_pb.GenerateStreamResponse], call)

    def score(self, **fields: Any) -> generation_pb.ScoreResponse:
        """Log-probabilities of a text's tokens."""
        return self.generation.Score(generation_pb.ScoreRequest(**fields))

    def classify(self, **fields: Any) -> classification_pb.ClassifyResponse:
        """Scores of labels."""
        return self.classification.Classify(classification_pb.ClassifyRequest(**fields))

    def classify_tokens(self, **fields: Any) -> classification_pb.ClassifyTokensResponse:
        """Entities in texts."""
        return self.classification.ClassifyTokens(classification_pb.ClassifyTokensRequest(**fields))

    def classify_zero_shot(self, **fields: Any) -> classification_pb.ClassifyZeroShotResponse:
        """Scores of the caller's own labels."""
        return self.classification.ClassifyZeroShot(classification_pb.ClassifyZeroShotRequest(**fields))

    def explain(self, **fields: Any) -> classification_pb.ExplainResponse:
        """Which words moved a score."""
        return self.classification.Explain(classification_pb.ExplainRequest(**fields))

    def embed(self, **fields: Any) -> classification_pb.EmbedResponse:
        """Vectors of texts."""
        return self.classification.Embed(classification_pb.EmbedRequest(**fields))

    def rerank(self, **fields: Any) -> classification_pb.RerankResponse:
        """Documents by how well they answer a query."""
        return self.classification.Rerank(classification_pb.RerankRequest(**fields))

    def tokenize(self, **fields: Any) -> tokenization_pb.TokenizeResponse:
        """Tokens of texts."""
        return self.tokenization.Tokenize(tokenization_pb.TokenizeRequest(**fields))

    def detokenize(self, **fields: Any) -> tokenization_pb.DetokenizeResponse:
        """Texts of token ids."""
        return self.tokenization.Detokenize(tokenization_pb.DetokenizeRequest(**fields))

    def count_tokens(self, **fields: Any) -> tokenization_pb.CountTokensResponse:
        """Number of tokens of texts."""
        return self.tokenization.CountTokens(tokenization_pb.CountTokensRequest(**fields))

    def apply_chat_template(self, **fields: Any) -> tokenization_pb.ApplyChatTemplateResponse:
        """A conversation as the model reads it."""
        return self.tokenization.ApplyChatTemplate(tokenization_pb.ApplyChatTemplateRequest(**fields))

    def close(self) -> None:
        """Ends all calls."""
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
