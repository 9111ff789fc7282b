# ruff: noqa: N802 - the protocol names the methods
"""Servers that count the attempts of each call and answer as told, for tests of retries."""

import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

# Takes the number of the attempt on this server, from 1; a status to fail with, or None to answer.
Verdict = Callable[[int], grpc.StatusCode | None]


class CountingGeneration(generation_pb2_grpc.GenerationServiceServicer):
    """Notes when attempts come. A stream fails after its first message."""

    def __init__(self, verdict: Verdict) -> None:
        self.attempts = 0
        self.metadata: list[dict[str, Any]] = []
        self.remaining_s: list[float] = []
        self._verdict = verdict
        self._lock = threading.Lock()

    def _judge(self, context: grpc.ServicerContext) -> grpc.StatusCode | None:
        with self._lock:
            self.attempts += 1
            self.metadata.append(dict(context.invocation_metadata()))
            self.remaining_s.append(context.time_remaining())
            return self._verdict(self.attempts)

    def Generate(self, request: Any, context: grpc.ServicerContext) -> Any:
        code = self._judge(context)
        if code is not None:
            context.abort(code, "as told")
        return pb.GenerateResponse()

    def GenerateStream(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        code = self._judge(context)
        if request.text == "early" and code is not None:
            context.abort(code, "as told")
        yield pb.GenerateStreamResponse(started=pb.StreamStarted())
        if code is not None:
            context.abort(code, "as told")


@contextmanager
def counting_server(verdict: Verdict) -> Iterator[tuple[CountingGeneration, str]]:
    """A server, and its address."""
    with futures.ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        servicer = CountingGeneration(verdict)
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield servicer, f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()
