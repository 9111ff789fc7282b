"""A service without file descriptors, or without room for its log: calls go on or fail at once, and it recovers."""

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from tests.support.cluster import FAST_RECONNECT
from tests.support.small_models import bert_tokenizer, write_model
from tests.support.stack import free_ports

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

REQUEST = pb.TokenizeRequest(model="embed", texts=["hello"])
SPARE_DESCRIPTORS = 4


@dataclass
class Service:
    """A running tokenization service."""

    process: subprocess.Popen[bytes]
    address: str
    metrics_port: int

    def channel(self) -> grpc.Channel:
        """A connection of its own."""
        return grpc.insecure_channel(self.address, options=FAST_RECONNECT)

    def stop(self) -> int:
        """Ends it in order; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextlib.contextmanager
def running(folder: Path, log: IO[bytes]) -> Iterator[Service]:
    """A service that writes its log to `log`."""
    repository = folder / "models"
    write_model(repository, "embed", "embed", bert_tokenizer())
    port, metrics_port = free_ports(2)
    environment = {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PATH": os.environ["PATH"],
        "NAIAD_MODEL_REPOSITORY": str(repository),
        "NAIAD_TOKENIZATION_PORT": str(port),
        "NAIAD_TOKENIZATION_METRICS_PORT": str(metrics_port),
        "NAIAD_DRAIN_NOTICE_MS": "0",
    }
    process = subprocess.Popen([sys.executable, "-m", "services.tokenization"], env=environment, stderr=log)
    service = Service(process, f"127.0.0.1:{port}", metrics_port)
    try:
        with service.channel() as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            stub.Check(health_pb2.HealthCheckRequest(), timeout=30, wait_for_ready=True)
        yield service
    finally:
        process.kill()
        process.wait()


def tokenize(channel: grpc.Channel, timeout_s: float = 10) -> None:
    """One call that is answered well."""
    answer = tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(REQUEST, timeout=timeout_s)
    assert len(answer.results) == 1


def test_without_descriptors_old_clients_go_on_and_new_ones_hear_of_it_in_time(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, running(tmp_path, log) as service, service.channel() as old:
        tokenize(old)
        limit = psutil.Process(service.process.pid).num_fds() + SPARE_DESCRIPTORS
        resource.prlimit(
            service.process.pid, resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1])
        )
        host, port = service.address.split(":")
        with contextlib.ExitStack() as hoard:
            for _ in range(4 * SPARE_DESCRIPTORS):
                hoard.enter_context(socket.create_connection((host, int(port)), timeout=5))
            for _ in range(20):
                tokenize(old)
            with service.channel() as new, pytest.raises(grpc.RpcError) as refused:
                tokenize(new, timeout_s=2)
            assert refused.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
            tokenize(old)
        with service.channel() as new:
            stub = tokenization_pb2_grpc.TokenizationServiceStub(new)
            assert stub.Tokenize(REQUEST, timeout=20, wait_for_ready=True).results
        with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=10) as page:
            assert b"naiad_rpc_requests_total" in page.read()
        assert service.stop() == 0


def test_a_full_disk_costs_log_lines_and_nothing_else(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as log, running(tmp_path, log) as service, service.channel() as channel:
        for _ in range(50):
            tokenize(channel)
        with urllib.request.urlopen(f"http://127.0.0.1:{service.metrics_port}/metrics", timeout=10) as page:
            assert b"naiad_rpc_requests_total" in page.read()
        assert service.stop() == 0


def test_the_log_goes_on_when_there_is_room_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("ab") as log, running(tmp_path, log) as service, service.channel() as channel:
        tokenize(channel)
        full = path.stat().st_size
        unlimited = resource.RLIM_INFINITY
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (full, unlimited))
        for _ in range(20):
            tokenize(channel)
        assert path.stat().st_size == full
        resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (unlimited, unlimited))
        tokenize(channel)
        assert service.stop() == 0
    lines = path.read_bytes()[full:].decode().splitlines()
    messages = [json.loads(line) for line in lines]
    assert [line["message"] for line in messages] == ["call", "draining", "stopped"]
