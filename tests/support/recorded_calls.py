"""Calls to the generation service whose tokens, times and outcomes go into a history."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.support.history import OK, CallRecord, History


@dataclass(frozen=True)
class Question:
    """A greedy generation of exactly `max_tokens`. `answer` is its name among the answers of a history."""

    model: str
    prompt: Sequence[int]
    max_tokens: int
    deadline_s: float
    priority: int = 0

    @property
    def answer(self) -> str:
        """The same for all questions with the same answer."""
        return f"{self.model} {list(self.prompt)} {self.max_tokens}"

    def fill(self, request: Any) -> Any:
        """Writes it into a GenerateRequest or a GenerateStreamRequest."""
        request.model, request.priority = self.model, self.priority
        request.token_ids.ids.extend(self.prompt)
        request.sampling.temperature = 0
        request.stopping.max_tokens, request.stopping.ignore_eos = self.max_tokens, True
        request.response.return_token_ids = True
        return request


def ask(channel: grpc.Channel, question: Question, call: CallRecord) -> None:
    """One unary call to its end."""
    stub = generation_pb2_grpc.GenerationServiceStub(channel)

    def run() -> None:
        answer = stub.Generate(question.fill(generation_pb2.GenerateRequest()), timeout=question.deadline_s)
        call.add_tokens(answer.completions[0].token_ids)

    _record(run, call)


def ask_stream(channel: grpc.Channel, question: Question, call: CallRecord, begun: threading.Event) -> None:
    """One stream to its end; `begun` is set with the first token."""
    stub = generation_pb2_grpc.GenerationServiceStub(channel)

    def run() -> None:
        request = question.fill(generation_pb2.GenerateStreamRequest())
        for event in stub.GenerateStream(request, timeout=question.deadline_s):
            if event.HasField("delta"):
                call.add_tokens(event.delta.token_ids)
                begun.set()

    _record(run, call)


def _record(run: Callable[[], None], call: CallRecord) -> None:
    try:
        run()
    except grpc.RpcError as error:
        call.end(str(error.code().name), error.details() or "")
    else:
        call.end(OK)


class SteadyCaller:
    """Asks the same short question again and again, one call at a time, until the end of its `with` block."""

    def __init__(self, channel: grpc.Channel, question: Question, history: History) -> None:
        self._channel = channel
        self._question = question
        self._history = history
        self._done = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._running: Future[None] | None = None
        self.calls: list[CallRecord] = []

    def __enter__(self) -> "SteadyCaller":
        self._running = self._thread.submit(self._run)
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.shutdown(wait=True)
        assert self._running is not None
        self._running.result()

    def _run(self) -> None:
        while not self._done.is_set():
            call = self._history.begin("steady", self._question.answer, self._question.deadline_s)
            self.calls.append(call)
            ask(self._channel, self._question, call)
