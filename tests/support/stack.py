"""Starts `naiad serve` as a user would, on free ports, and stops it as Ctrl-C would."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

REPOSITORY_ROOT = Path(__file__).parents[2]
SERVICES = {
    "tokenization": "naiad.v1.TokenizationService",
    "generation": "naiad.v1.GenerationService",
    "classification": "naiad.v1.ClassificationService",
}


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on."""
    with contextlib.ExitStack() as sockets:
        ports = []
        for _ in range(count):
            probe = sockets.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports


@dataclass
class Stack:
    """A running system: addresses of its endpoints, and the supervisor's process."""

    process: subprocess.Popen[bytes]
    environment: dict[str, str]
    grpc_ports: dict[str, int]
    metrics_ports: dict[str, int]
    output: Path
    channels: dict[str, grpc.Channel] = field(default_factory=dict)
    credentials: grpc.ChannelCredentials | None = None  # None: no TLS

    def address(self, service: str) -> str:
        """HOST:PORT of a service's gRPC endpoint."""
        return f"127.0.0.1:{self.grpc_ports[service]}"

    def channel(self, service: str) -> grpc.Channel:
        """The one channel of this stack to a service."""
        if service not in self.channels:
            address = self.address(service)
            self.channels[service] = (
                grpc.insecure_channel(address)
                if self.credentials is None
                else grpc.secure_channel(address, self.credentials)
            )
        return self.channels[service]

    def health(self, service: str) -> int:
        """What the service says of itself now: a HealthCheckResponse.ServingStatus."""
        stub: Any = health_pb2_grpc.HealthStub(self.channel(service))
        return int(stub.Check(health_pb2.HealthCheckRequest(service=SERVICES[service]), timeout=5).status)

    def wait_for_health(self, service: str, status: int, timeout_s: float) -> float:
        """Watches the health of a service until it is `status`; returns the seconds that took."""
        begun = time.monotonic()
        stub: Any = health_pb2_grpc.HealthStub(self.channel(service))
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[service]), timeout=timeout_s)
        try:
            for update in watch:
                if update.status == status:
                    return time.monotonic() - begun
        finally:
            watch.cancel()
        raise AssertionError(f"{service} ended its health watch before it was {status}")

    def run_cli(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Runs the `naiad` command against this stack, in a process of its own."""
        return subprocess.run(
            [sys.executable, "-m", "services.cli.main", *arguments],
            cwd=REPOSITORY_ROOT,
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def close_channels(self) -> None:
        """Ends the connections of the test."""
        for channel in self.channels.values():
            channel.close()


# Limits that follow the speed of the machine would refuse, on a slow one, what a test is about.
FIXED_LIMITS = {f"NAIAD_{name.upper()}_QUEUE_TARGET_MS": "0" for name in SERVICES}
# Settings that a test takes from its caller.
WHAT_IS_TESTED = ("NAIAD_BACKEND_DIRECTORY", "NAIAD_SIMD_LEVEL", "NAIAD_CPU_PRIORITY", "NAIAD_ONE_CORE")

_ALL_READY = "Ctrl-C stops everything."


@contextlib.contextmanager
def running_stack(
    repository: Path, work_folder: Path, *, credentials: grpc.ChannelCredentials | None = None, **settings: str
) -> Iterator[Stack]:
    """Starts the system on `repository`; `settings` are more NAIAD_ variables. Fails if it does not end cleanly.

    Limits on work in flight do not move unless `settings` say so.
    `credentials` are what its services are called with when they speak TLS.
    """
    ports = free_ports(8)
    grpc_ports = dict(zip([*SERVICES, "triton"], ports[:4], strict=True))
    metrics_ports = dict(zip([*SERVICES, "triton"], ports[4:], strict=True))
    # Settings of the caller's own system are none of the test's, but which build is tested, and on which instructions
    # and cores, is.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("NAIAD_") or name in WHAT_IS_TESTED
    }
    environment |= {f"NAIAD_{name.upper()}_PORT": str(grpc_ports[name]) for name in SERVICES}
    environment |= {f"NAIAD_{name.upper()}_METRICS_PORT": str(metrics_ports[name]) for name in SERVICES}
    environment |= {
        "NAIAD_TRITON_GRPC_PORT": str(grpc_ports["triton"]),
        "NAIAD_TRITON_METRICS_PORT": str(metrics_ports["triton"]),
        "NAIAD_LOG_DIRECTORY": str(work_folder / "logs"),
        "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}",
        "PYTHONUNBUFFERED": "1",
        **FIXED_LIMITS,
        **settings,
    }
    output = work_folder / "serve.out"
    with output.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.cli.main", "serve", "--repository", str(repository)],
            cwd=REPOSITORY_ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    stack = Stack(process, environment, grpc_ports, metrics_ports, output, credentials=credentials)
    try:
        _wait_until_serving(stack)
        yield stack
    finally:
        stack.close_channels()
        _interrupt(process)
    text = output.read_text()
    assert process.returncode == 0, f"naiad serve ended with {process.returncode}:\n{text}"


def _wait_until_serving(stack: Stack) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if stack.process.poll() is not None:
            raise AssertionError(f"naiad serve ended while starting:\n{stack.output.read_text()}")
        try:
            # Connecting waits for the port; an answer other than SERVING means that it is still starting. The
            # supervisor hears of it a moment later, and until then a death is one during the start.
            if all(_is_serving(stack, name) for name in SERVICES) and _ALL_READY in stack.output.read_text():
                return
        except grpc.RpcError:
            continue
    raise AssertionError(f"not serving after 120 s:\n{stack.output.read_text()}")


def _is_serving(stack: Stack, service: str) -> bool:
    stub: Any = health_pb2_grpc.HealthStub(stack.channel(service))
    request = health_pb2.HealthCheckRequest(service=SERVICES[service])
    answer = stub.Check(request, timeout=10, wait_for_ready=True)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
