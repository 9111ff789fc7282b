"""A running system with several Tritons, of which tests hurt one."""

import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field

import psutil
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

from tests.support.stack import Stack

_SAMPLE = re.compile(r'^(\w+)\{endpoint="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass
class Completion:
    """What a client got of one completion; equal exactly if the client cannot tell two of them apart."""

    text: str = ""
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[tuple[int, float]] = field(default_factory=list)
    finish_reason: int = 0
    stop: tuple[str, int] = ("", 0)


@dataclass
class Stream:
    """What a client got of one call, and the longest time between two of its events."""

    completions: dict[int, Completion] = field(default_factory=dict)
    completion_tokens: int = 0
    longest_gap_s: float = field(default=0.0, compare=False)

    def add(self, event: pb.GenerateStreamResponse) -> None:
        """Takes one event."""
        if event.HasField("delta"):
            completion = self.completions.setdefault(event.delta.index, Completion())
            completion.text += event.delta.text
            completion.token_ids += event.delta.token_ids
            completion.logprobs += [(entry.chosen.token_id, entry.chosen.logprob) for entry in event.delta.logprobs]
        elif event.HasField("finished"):
            completion = self.completions.setdefault(event.finished.index, Completion())
            completion.finish_reason = event.finished.finish_reason
            completion.stop = (event.finished.stop_match.text, event.finished.stop_match.token_id)
        elif event.HasField("summary"):
            self.completion_tokens = event.summary.usage.completion_tokens

    @property
    def tokens(self) -> int:
        """Number of tokens that have come."""
        return sum(len(completion.token_ids) for completion in list(self.completions.values()))


class Fleet:
    """The stack as these tests see it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._hurt_last = ""
        self.generation = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))

    def metric(self, service: str, name: str) -> dict[str, float]:
        """A metric of a service for each Triton, by endpoint."""
        url = f"http://127.0.0.1:{self.stack.metrics_ports[service]}/metrics"
        with urllib.request.urlopen(url, timeout=5) as response:
            page: str = response.read().decode()
        return {endpoint: float(value) for found, endpoint, value in _SAMPLE.findall(page) if found == name}

    def working(self, service: str = "generation") -> str:
        """The endpoint of a Triton that has requests of a service; in turn: a supervisor gives up who dies often."""
        requests = self.metric(service, "naiad_triton_requests_in_flight")
        return max(requests, key=lambda endpoint: (requests[endpoint] > 0, endpoint != self._hurt_last))

    def process(self, endpoint: str) -> psutil.Process:
        """The Triton that listens there."""
        wanted = f"--grpc-port={endpoint.rpartition(':')[2]}"
        children = psutil.Process(self.stack.process.pid).children(recursive=True)
        return next(child for child in children if wanted in child.cmdline())

    def hurt(self, endpoint: str, number: signal.Signals) -> psutil.Process:
        """Sends a signal to the Triton there."""
        process = self.process(endpoint)
        self._hurt_last = endpoint
        os.kill(process.pid, number)
        return process

    def wait_until_all_serve(self, services: Iterable[str] = ("generation",), timeout_s: float = 60) -> None:
        """Returns once all Tritons serve these services; the supervisor brings back those that have died."""
        deadline = time.monotonic() + timeout_s
        while any(min(self.metric(service, "naiad_triton_endpoint_up").values()) < 1 for service in services):
            assert time.monotonic() < deadline, "not all Tritons have come back"
            time.sleep(0.05)

    def run(self, request: pb.GenerateStreamRequest, stream: Stream | None = None) -> Stream:
        """One call to its end, noted in `stream` as it goes. Raises grpc.RpcError."""
        stream = Stream() if stream is None else stream
        last_s = time.monotonic()
        for event in self.generation.GenerateStream(request, timeout=120):
            now_s = time.monotonic()
            stream.longest_gap_s = max(stream.longest_gap_s, now_s - last_s)
            last_s = now_s
            stream.add(event)
        return stream


def requests_of_all_kinds(model: str, prompts: list[list[int]], max_tokens: int) -> list[pb.GenerateStreamRequest]:
    """Greedy, seeded, with penalties, with log-probabilities, and several completions, of each prompt."""
    samplings = [
        pb.SamplingOptions(temperature=0),
        pb.SamplingOptions(temperature=1.2, seed=11, top_p=0.95),
        pb.SamplingOptions(temperature=1, seed=5, repetition_penalty=1.2, presence_penalty=0.5, frequency_penalty=0.4),
        pb.SamplingOptions(temperature=1, seed=9, top_k=30),
        pb.SamplingOptions(temperature=1.5, seed=2, n=3),
    ]
    requests = []
    for prompt in prompts:
        for number, sampling in enumerate(samplings):
            request = pb.GenerateStreamRequest(model=model, sampling=sampling)
            request.token_ids.ids.extend(prompt)
            request.stopping.max_tokens, request.stopping.ignore_eos = max_tokens, True
            request.response.return_token_ids = True
            request.response.logprobs = number == 3
            requests.append(request)
    return requests
