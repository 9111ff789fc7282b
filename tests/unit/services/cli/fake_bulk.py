# ruff: noqa: N802 - the protocol names the methods
"""ClassifyStream and Explain with fixed answers, which break off when told to."""

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.common.errors import NaiadError, invalid_field
from services.common.status import STATUS_CODES, status_message, trailers

REFUSED_TEXT = "refused"


@dataclass
class BulkService(classification_pb2_grpc.ClassificationServiceServicer):
    """The best label of a text is its first word; of REFUSED_TEXT, and of no text at all, an error.

    `break_off` gets the number of items that were answered, over all streams, and has an error that ends the stream.
    """

    break_off: Callable[[int], NaiadError | None] = lambda _: None
    options: list[pb.ClassifyStreamOptions] = field(default_factory=list)
    explains: list[pb.ExplainRequest] = field(default_factory=list)
    answered: int = 0
    explanation: pb.ExplainResponse = field(default_factory=pb.ExplainResponse)

    def ClassifyStream(self, request_iterator: Iterator[pb.ClassifyStreamRequest], context: Any) -> Iterator[Any]:
        index = 0
        for request in request_iterator:
            if request.HasField("options"):
                self.options.append(request.options)
            for item in request.items:
                error = self.break_off(self.answered)
                if error is not None:
                    context.set_trailing_metadata(trailers(error, "request-1"))
                    context.abort(STATUS_CODES[error.reason], error.message)
                answer = pb.ClassifyStreamResult(index=index, id=item.id)
                self._fill(answer.result, item)
                yield pb.ClassifyStreamResponse(results=[answer])
                self.answered += 1
                index += 1

    @staticmethod
    def _fill(result: pb.ClassifyResult, item: pb.ClassifyStreamItem) -> None:
        text = f"{item.pair.first} {item.pair.second}" if item.HasField("pair") else item.text
        if text == REFUSED_TEXT or item.WhichOneof("content") is None:
            result.error.CopyFrom(status_message(invalid_field("text", "is refused"), "request-1"))
            return
        result.classification.tokens = len(text.split()) + 2
        result.classification.scores.add(label=text.split()[0], index=0, score=0.75)
        result.classification.scores.add(label="other", index=1, score=0.25)

    def Explain(self, request: pb.ExplainRequest, context: Any) -> pb.ExplainResponse:
        self.explains.append(request)
        return self.explanation


@contextmanager
def running(service: BulkService, port: int = 0) -> Iterator[int]:
    """The service on a port of the loopback."""
    with futures.ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads, options=(("grpc.so_reuseport", 0),))
        classification_pb2_grpc.add_ClassificationServiceServicer_to_server(service, server)
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        server.start()
        try:
            yield bound
        finally:
            server.stop(None).wait()
