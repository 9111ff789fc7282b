"""Triton is killed while it streams: clients hear of it at once, and the system heals by itself."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.support.models import exact_repository
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.faults

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    """A stack of this test alone: it will be hurt."""
    with running_stack(exact_repository(), tmp_path) as running:
        yield running


def triton_process(stack: Stack) -> psutil.Process:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return next(child for child in children if "tritonserver" in Path(child.cmdline()[0]).name)


def long_request() -> generation_pb2.GenerateStreamRequest:
    request = generation_pb2.GenerateStreamRequest(model="chat", text="Tell a long story.")
    request.stopping.max_tokens, request.stopping.ignore_eos = 800, True
    return request


def test_streams_end_with_unavailable_at_once_and_the_next_call_after_recovery_works(own_stack: Stack) -> None:
    stub = generation_pb2_grpc.GenerationServiceStub(own_stack.channel("generation"))
    streaming = threading.Barrier(9)
    outcomes: list[tuple[grpc.StatusCode, float]] = []

    def client() -> None:
        call = stub.GenerateStream(long_request(), timeout=120)
        next(event for event in call if event.HasField("delta"))
        streaming.wait()
        try:
            list(call)
        except grpc.RpcError as error:
            outcomes.append((error.code(), time.monotonic()))

    clients = [threading.Thread(target=client) for _ in range(8)]
    for thread in clients:
        thread.start()
    streaming.wait(timeout=60)
    killed = time.monotonic()
    os.kill(triton_process(own_stack).pid, signal.SIGKILL)
    assert own_stack.wait_for_health("generation", NOT_SERVING, timeout_s=10) < 1.0
    for thread in clients:
        thread.join(timeout=10)
    assert [code for code, _ in outcomes] == [grpc.StatusCode.UNAVAILABLE] * 8
    assert max(when for _, when in outcomes) - killed < 1.0

    own_stack.wait_for_health("generation", SERVING, timeout_s=60)
    own_stack.wait_for_health("classification", SERVING, timeout_s=60)
    request = generation_pb2.GenerateRequest(model="chat", text="Hello")
    request.stopping.max_tokens = 3
    assert stub.Generate(request, timeout=30).usage.completion_tokens == 3
    assert re.search(r"triton died .*starting it again", own_stack.output.read_text())


def test_killing_the_supervisor_leaves_no_orphan(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="ended with -9"), running_stack(exact_repository(), tmp_path) as stack:
        children = psutil.Process(stack.process.pid).children(recursive=True)
        assert len(children) >= 4
        stack.process.kill()
        gone, alive = psutil.wait_procs(children, timeout=10)
        assert len(gone) == len(children) and alive == []
