# ruff: noqa: N802 - the protocol names the methods
"""The three services with fixed answers, for tests of the command line. They note the requests that they get."""

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from naiad.v1 import (
    classification_pb2,
    classification_pb2_grpc,
    common_pb2,
    generation_pb2,
    generation_pb2_grpc,
    tokenization_pb2,
    tokenization_pb2_grpc,
)

from services.common.errors import NaiadError
from services.common.status import STATUS_CODES, status_message, trailers

PIECES = ("The capital ", "is ", "Paris 🥖.")
USAGE = generation_pb2.Usage(prompt_tokens=7, cached_prompt_tokens=2, completion_tokens=5)


@dataclass
class Answers:
    """What the services got, and what they shall do: fail with `failure`; never end a stream when `hang` is set."""

    requests: list[Any] = field(default_factory=list)
    failure: NaiadError | None = None
    item_failure: NaiadError | None = None
    hang: bool = False
    stream_ended: Any = None

    def note(self, request: Any, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if self.failure is not None:
            context.set_trailing_metadata(trailers(self.failure, "request-1"))
            context.abort(STATUS_CODES[self.failure.reason], self.failure.message)


def timings() -> generation_pb2.Timings:
    value = generation_pb2.Timings()
    value.queue.FromMilliseconds(1)
    value.prefill.FromMilliseconds(20)
    value.decode.FromMilliseconds(400)
    value.time_to_first_token.FromMilliseconds(25)
    return value


class Generation(generation_pb2_grpc.GenerationServiceServicer):
    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def Generate(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        count = request.sampling.n or 1
        completions = [generation_pb2.Completion(index=i, text="".join(PIECES)) for i in range(count)]
        return generation_pb2.GenerateResponse(completions=completions, usage=USAGE, timings=timings())

    def GenerateStream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        self.answers.note(request, context)
        ended = self.answers.stream_ended
        if ended is not None:
            context.add_callback(ended.set)
        response = generation_pb2.GenerateStreamResponse
        yield response(started=generation_pb2.StreamStarted(request_id="request-1", prompt_tokens=7))
        for piece in PIECES:
            yield response(delta=generation_pb2.StreamDelta(text=piece))
        if self.answers.hang:
            ended.wait()
            return
        finished = generation_pb2.StreamFinished(finish_reason=generation_pb2.FINISH_REASON_STOP)
        yield response(finished=finished)
        yield response(summary=generation_pb2.StreamSummary(usage=USAGE, timings=timings()))

    def Score(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        chosen = generation_pb2.TokenLogprob(token_id=5, token=" Paris", logprob=-0.5)
        top = [generation_pb2.TokenLogprob(token_id=6, token=" Rome", logprob=-1.5)] if request.top_logprobs else []
        return generation_pb2.ScoreResponse(
            token_ids=[4, 5],
            logprobs=[generation_pb2.PositionLogprobs(chosen=chosen, top=top)],
            total_logprob=-0.5,
            perplexity=1.6487,
        )

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        model = common_pb2.ModelInfo(
            name="chat",
            task=common_pb2.MODEL_TASK_GENERATE,
            architecture="llama",
            precision="int8",
            context_length_tokens=8192,
            ready=False,
        )
        return generation_pb2.GenerationServiceListModelsResponse(models=[model])


class Classification(classification_pb2_grpc.ClassificationServiceServicer):
    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def Classify(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        response = classification_pb2.ClassifyResponse()
        for index in range(len(request.texts) or len(request.pairs)):
            result = response.results.add()
            if index == 0 and self.answers.item_failure is not None:
                result.error.CopyFrom(status_message(self.answers.item_failure, "request-1"))
                continue
            result.classification.tokens = 6
            result.classification.scores.add(label="positive", index=1, score=0.75)
            result.classification.scores.add(label="negative", index=0, score=0.25)
        return response

    def ClassifyTokens(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The first word of a text is a person, unless the text is "nothing"."""
        self.answers.note(request, context)
        response = classification_pb2.ClassifyTokensResponse()
        for index, text in enumerate(request.texts):
            result = response.results.add()
            if index == 0 and self.answers.item_failure is not None:
                result.error.CopyFrom(status_message(self.answers.item_failure, "request-1"))
                continue
            result.entities.tokens = 4
            word = text.split()[0]
            if text != "nothing":
                span = classification_pb2.TextSpan(end_char=len(word), end_byte=len(word.encode()))
                result.entities.entities.add(label="PER", score=0.75, span=span, text=word)
        return response

    def Rerank(self, request: Any, context: grpc.ServicerContext) -> Any:
        """Longer documents are better."""
        self.answers.note(request, context)
        response = classification_pb2.RerankResponse(method=classification_pb2.SCORING_METHOD_EMBEDDING)
        places = sorted(range(len(request.documents)), key=lambda index: -len(request.documents[index]))
        for index in places[: request.top_k or None]:
            if index == 0 and self.answers.item_failure is not None:
                status = status_message(self.answers.item_failure, "request-1")
                response.errors.add(index=index, error=status)
                continue
            response.results.add(index=index, score=len(request.documents[index]) / 20)
        return response

    def ClassifyZeroShot(self, request: Any, context: grpc.ServicerContext) -> Any:
        """The last label is the best one."""
        self.answers.note(request, context)
        response = classification_pb2.ClassifyZeroShotResponse(method=classification_pb2.SCORING_METHOD_EMBEDDING)
        for index in range(len(request.texts)):
            result = response.results.add()
            if index == 0 and self.answers.item_failure is not None:
                result.error.CopyFrom(status_message(self.answers.item_failure, "request-1"))
                continue
            result.classification.tokens = 6
            for place, label in reversed(list(enumerate(request.labels))):
                result.classification.scores.add(label=label, index=place, score=(place + 1) / 4)
        return response

    def Embed(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        response = classification_pb2.EmbedResponse()
        vectors = {"east": [1.0, 0.0], "north": [0.0, 1.0], "northeast": [0.1, 0.1]}
        for index, text in enumerate(request.texts):
            result = response.results.add()
            if index == 0 and self.answers.item_failure is not None:
                result.error.CopyFrom(status_message(self.answers.item_failure, "request-1"))
                continue
            result.embedding.tokens = 3
            for _ in range(2 if request.pooling == classification_pb2.POOLING_NONE else 1):
                result.embedding.vectors.add().values.extend(vectors[text])
        return response

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        model = common_pb2.ModelInfo(name="embed", task=common_pb2.MODEL_TASK_EMBED, architecture="bert", ready=True)
        return classification_pb2.ClassificationServiceListModelsResponse(models=[model])


class Tokenization(tokenization_pb2_grpc.TokenizationServiceServicer):
    """A token is a character and its id the code point."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers

    def Tokenize(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        response = tokenization_pb2.TokenizeResponse()
        for text in request.texts:
            tokenization = response.results.add().tokenization
            tokenization.token_ids.extend(map(ord, text))
            tokenization.tokens.extend(text)
            if request.return_offsets:
                tokenization.offsets.extend(tokenization_pb2.TokenOffset(start=i, end=i + 1) for i in range(len(text)))
        return response

    def Detokenize(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        texts = ["".join(map(chr, sequence.ids)) for sequence in request.sequences]
        return tokenization_pb2.DetokenizeResponse(texts=texts)

    def CountTokens(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        return tokenization_pb2.CountTokensResponse(counts=[len(text) for text in request.texts])

    def ListModels(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.answers.note(request, context)
        models = [
            common_pb2.ModelInfo(name=name, task=common_pb2.MODEL_TASK_GENERATE, ready=True)
            for name in ("chat", "spare")
        ]
        return tokenization_pb2.TokenizationServiceListModelsResponse(models=models)


@contextmanager
def running(answers: Answers) -> Iterator[str]:
    """All three services on one port; the address."""
    with futures.ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(Generation(answers), server)
        classification_pb2_grpc.add_ClassificationServiceServicer_to_server(Classification(answers), server)
        tokenization_pb2_grpc.add_TokenizationServiceServicer_to_server(Tokenization(answers), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
