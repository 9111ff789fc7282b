"""Tritons and service processes that tests kill, freeze and start again, each always on the same ports."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.supervisor.triton_command import TritonOptions, find_onnxruntime_library, find_tritonserver
from tests.support.stack import REPOSITORY_ROOT, SERVICES, free_ports
from tests.support.triton import backend_directory

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40
# A channel that waits a second before its second try would make every start and every recovery a second longer.
FAST_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 5_000),  # which is how long an attempt may take, not a wait
    ("grpc.max_reconnect_backoff_ms", 200),
    # Channels of one process would share their connections, and with them their faults.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
SERVING = health_pb2.HealthCheckResponse.SERVING


class ManagedProcess:
    """One process that can be ended in every way and started again; a context manager of one that runs."""

    def __init__(self, name: str, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._command = command
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the one that runs."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it; does not wait until it serves."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=REPOSITORY_ROOT, env=self._environment, stdout=log, stderr=log
            )

    def send(self, number: signal.Signals) -> None:
        """Sends a signal."""
        os.kill(self.pid, number)

    def start_again_if_crashed(self) -> signal.Signals | None:
        """Starts it if a crash has ended it, which is what is returned; None if it runs or has ended otherwise."""
        if self._process is None or self._process.poll() not in (-signal.SIGSEGV, -signal.SIGABRT):
            return None
        crash = signal.Signals(-self._process.returncode)
        self.start()
        return crash

    def wait(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """Waits for its end; the exit code, negative for a signal."""
        assert self._process is not None
        return self._process.wait(timeout_s)

    def stop(self) -> None:
        """Ends it, whatever state it is in."""
        if self._process is None or self._process.poll() is not None:
            return
        self.send(signal.SIGCONT)
        self.send(signal.SIGTERM)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def log(self) -> str:
        """Everything that it has written."""
        return self._log.read_text(errors="replace")


class ManagedTriton(ManagedProcess):
    """A tritonserver with all models of a repository."""

    def __init__(self, name: str, repository: Path, folder: Path) -> None:
        grpc_port, self.metrics_port = free_ports(2)
        options = TritonOptions(
            server=find_tritonserver(),
            onnxruntime_library=find_onnxruntime_library(),
            model_repository=repository,
            backend_directory=backend_directory(),
            host="127.0.0.1",
            grpc_port=grpc_port,
            metrics_port=self.metrics_port,
        )
        self.address = f"127.0.0.1:{grpc_port}"
        super().__init__(name, list(options.command()), os.environ, folder / f"{name}.log")

    def wait_ready(self) -> None:
        """Returns once it has its models."""
        with grpc.insecure_channel(self.address, options=FAST_RECONNECT) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            ready = stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=START_TIMEOUT_S, wait_for_ready=True)
            assert ready.ready, self.log()

    def metrics(self) -> str:
        """The text of its metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())


class ManagedService(ManagedProcess):
    """One process of a service, which asks the Triton at `triton_address`. `settings` are more NAIAD_ variables."""

    def __init__(
        self, service: str, repository: Path, triton_address: str, log: Path, settings: Mapping[str, str]
    ) -> None:
        port, self.metrics_port = free_ports(2)
        self.service = service
        self.address = f"127.0.0.1:{port}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
        environment = {
            **inherited,
            "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}",
            "PYTHONUNBUFFERED": "1",
            "NAIAD_MODEL_REPOSITORY": str(repository),
            "NAIAD_TRITON_ADDRESS": triton_address,
            f"NAIAD_{service.upper()}_PORT": str(port),
            f"NAIAD_{service.upper()}_METRICS_PORT": str(self.metrics_port),
            **settings,
        }
        super().__init__(log.stem, [sys.executable, "-m", f"services.{service}"], environment, log)

    def wait_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Returns once it serves."""
        self.wait_for(lambda status: status == SERVING, timeout_s)

    def wait_for(self, wanted: Callable[[int], bool], timeout_s: float, address: str | None = None) -> None:
        """Watches its health, at its own address or through a proxy, until the status is a `wanted` one."""
        with grpc.insecure_channel(address or self.address, options=FAST_RECONNECT) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=SERVICES[self.service])
            watch = stub.Watch(request, timeout=timeout_s, wait_for_ready=True)
            for update in watch:
                if wanted(update.status):
                    watch.cancel()
                    return
        raise AssertionError(f"{self.name} ended its watch:\n{self.log()}")

    def check(self, name: str, timeout_s: float = 5) -> int:
        """What it says of `name` now."""
        with grpc.insecure_channel(self.address, options=FAST_RECONNECT) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            return int(stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout_s).status)


@contextlib.contextmanager
def started(*processes: ManagedTriton | ManagedService) -> Iterator[None]:
    """Runs these, all started at once, and ends them one by one in the reverse order."""
    with contextlib.ExitStack() as stack:
        for process in processes:
            stack.callback(process.stop)
            process.start()
        for process in processes:
            process.wait_ready()
        yield


@contextlib.contextmanager
def supervised(triton: ManagedTriton) -> Iterator[list[str]]:
    """Starts it again when it crashes, as `naiad serve` and Kubernetes do; the crashes so far.

    Triton 2.51 dies now and then when the client of a stream is killed whose requests live (decision 0002).
    """
    crashes: list[str] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            if (crash := triton.start_again_if_crashed()) is not None:
                crashes.append(crash.name)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield crashes
    finally:
        done.set()
        watcher.join()
