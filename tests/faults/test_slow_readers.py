"""Clients that ask and never read: they cost a bounded amount of memory for a bounded time, and nobody else waits."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from naiad.v1 import classification_pb2, classification_pb2_grpc, generation_pb2, generation_pb2_grpc

from tests.e2e.test_metrics import total
from tests.support.engine_metrics import scrape
from tests.support.models import demo_repository
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(600)]

SLOW_CLIENTS = 16
MOST_GROWTH_BYTES = 64 << 20
BULK_STREAMS = 8
# Of each 4,096 items may wait for their answers, with their tokens.
MOST_GROWTH_OF_BULK_BYTES = BULK_STREAMS * (32 << 20)
# A window that is filled soon, and not made larger; a connection for each, so that none fills another's.
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 1024),
)


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    settings = {
        "NAIAD_WRITE_STALL_TIMEOUT_MS": "1000",
        "NAIAD_GENERATION_MAX_INFLIGHT_TOKENS": "10000000",
    }
    with running_stack(demo_repository(), tmp_path, **settings) as running:
        yield running


def process_of(stack: Stack, service: str) -> psutil.Process:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return next(child for child in children if f"services.{service}" in " ".join(child.cmdline()))


def wait_until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what


def refused(stack: Stack, service: str) -> float:
    page = scrape(stack.metrics_ports[service])
    lines = (
        line for line in page.splitlines() if line.startswith('naiad_requests_rejected_total{reason="OVERLOADED"}')
    )
    return sum(float(line.split()[-1]) for line in lines)


class FastClient(threading.Thread):
    """Makes short calls, one after the other, until it is told to stop; notes how long each took."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self._call = call
        self._done = threading.Event()
        self.durations_s: list[float] = []
        self.failure: grpc.RpcError | None = None

    def run(self) -> None:
        while not self._done.is_set():
            begun_s = time.monotonic()
            try:
                self._call()
            except grpc.RpcError as error:
                self.failure = error
                return
            self.durations_s.append(time.monotonic() - begun_s)

    def finish(self) -> None:
        """Ends it, and fails if a call failed."""
        self._done.set()
        self.join()
        assert self.failure is None, self.failure


def test_streams_that_nobody_reads_end_and_leave_no_memory_behind(own_stack: Stack) -> None:
    service = process_of(own_stack, "generation")
    fast_stub = generation_pb2_grpc.GenerationServiceStub(own_stack.channel("generation"))
    short = generation_pb2.GenerateRequest(model="chat", text="Hello")
    short.stopping.max_tokens = 2
    fast_stub.Generate(short)
    before_bytes = service.memory_info().rss
    request = generation_pb2.GenerateStreamRequest(model="chat", text="Once upon a time")
    request.sampling.n, request.sampling.temperature = 4, 1.0
    request.stopping.max_tokens, request.stopping.ignore_eos = 1_500, True
    request.response.logprobs, request.response.top_logprobs = True, 20  # so that answers are large
    # It goes first in the engine: what it is about is the service.
    short.priority = 100
    fast = FastClient(lambda: fast_stub.Generate(short, timeout=60))
    with ExitStack() as channels:
        calls = []
        for _ in range(SLOW_CLIENTS):
            channel = channels.enter_context(grpc.insecure_channel(own_stack.address("generation"), CHANNEL_OPTIONS))
            calls.append(generation_pb2_grpc.GenerationServiceStub(channel).GenerateStream(request))
        fast.start()
        wait_until(lambda: refused(own_stack, "generation") >= SLOW_CLIENTS, 240, "streams that nobody reads go on")
        grown_bytes = service.memory_info().rss - before_bytes
        fast.finish()
        page = scrape(own_stack.metrics_ports["triton"])
        assert total(page, "naiad_num_requests_running") + total(page, "naiad_num_requests_waiting") == 0
        assert grown_bytes < MOST_GROWTH_BYTES, f"grew by {grown_bytes / 2**20:.0f} MiB"
        assert fast.durations_s
        with pytest.raises(grpc.RpcError) as caught:  # whoever reads at last is told
            list(calls[0])
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "reads too slowly" in str(caught.value.details())


def test_a_bulk_stream_that_nobody_reads_ends(own_stack: Stack) -> None:
    service = process_of(own_stack, "classification")
    item = classification_pb2.ClassifyStreamItem(id="x" * 200, text="good")
    start = classification_pb2.ClassifyStreamRequest(
        options=classification_pb2.ClassifyStreamOptions(model="sentiment"), items=[item] * 100
    )
    more = classification_pb2.ClassifyStreamRequest(items=[item] * 100)
    leave = threading.Event()

    def requests() -> Iterator[classification_pb2.ClassifyStreamRequest]:
        yield start
        while not leave.is_set():
            yield more

    before_bytes = service.memory_info().rss
    calls = []  # kept: a call that nobody holds is cancelled
    with ExitStack() as channels:
        for _ in range(BULK_STREAMS):
            channel = channels.enter_context(
                grpc.insecure_channel(own_stack.address("classification"), CHANNEL_OPTIONS)
            )
            calls.append(classification_pb2_grpc.ClassificationServiceStub(channel).ClassifyStream(requests()))
        try:
            wait_until(
                lambda: refused(own_stack, "classification") >= BULK_STREAMS,
                120,
                "bulk streams that nobody reads go on",
            )
        finally:
            leave.set()
        grown_bytes = service.memory_info().rss - before_bytes
    assert grown_bytes < MOST_GROWTH_OF_BULK_BYTES, f"grew by {grown_bytes / 2**20:.0f} MiB"
