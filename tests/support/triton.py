"""Starts a real tritonserver with the real backend, on free ports, and stops it as a supervisor would."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

from services.supervisor.triton_command import LOCK_HEADER, TritonOptions, find_onnxruntime_library, find_tritonserver
from tests.support.stack import REPOSITORY_ROOT, free_ports

# The models load before the endpoints start.
_READY = "Started GRPCInferenceService"


class TritonFailedToStartError(Exception):
    """tritonserver ended before it was ready; the message is its log."""


def backend_directory() -> Path:
    """The folder that holds naiad/libtriton_naiad.so: $NAIAD_BACKEND_DIRECTORY, or what `make core` builds."""
    folder = Path(os.environ.get("NAIAD_BACKEND_DIRECTORY", REPOSITORY_ROOT / "build" / "core" / "backends"))
    if not (folder / "naiad" / "libtriton_naiad.so").is_file():
        raise FileNotFoundError(f"{folder}/naiad/libtriton_naiad.so is missing; run: make core")
    return folder


class TritonServer:
    """A running tritonserver. Made by `run_triton`."""

    def __init__(self, options: TritonOptions, arguments: Sequence[str]) -> None:
        self.options = options
        self.grpc_address = f"{options.host}:{options.grpc_port}"
        self.metrics_url = f"http://{options.host}:{options.metrics_port}/metrics"
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._log_ended = False
        self._process = subprocess.Popen(
            [*options.command(), *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line)
                    self._changed.notify_all()
        with self._changed:
            self._log_ended = True
            self._changed.notify_all()

    @property
    def key(self) -> tuple[tuple[str, str], ...]:
        """Metadata that opens the calls which a Triton of naiad keeps locked."""
        return ((f"triton-grpc-protocol-{LOCK_HEADER}", self.options.lock),)

    @property
    def pid(self) -> int:
        """Process id of tritonserver."""
        return self._process.pid

    def log(self) -> str:
        """Everything the server has written so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for_log(self, text: str, timeout_s: float = 30) -> None:
        """Returns once `text` is in the log; fails if the server ends or the time passes before."""
        with self._changed:
            found = self._changed.wait_for(lambda: self._log_ended or self._logged(text), timeout_s)
            if not found or not self._logged(text):
                raise TritonFailedToStartError(f"{text!r} is not in the log:\n{''.join(self._lines)}")

    def _logged(self, text: str) -> bool:
        return any(text in line for line in self._lines)

    def metrics(self) -> str:
        """The text of the metrics endpoint."""
        with urllib.request.urlopen(self.metrics_url, timeout=5) as response:
            text: str = response.read().decode()
            return text

    def terminate(self) -> None:
        """Asks the server to end, and does not wait."""
        self._process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float = 30) -> int:
        """Waits for the server's end; returns its exit code, negative for a signal."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise
        self._reader.join()
        return code

    def stop(self, timeout_s: float = 30) -> int:
        """Ends the server in order; returns its exit code."""
        if self._process.poll() is None:
            self.terminate()
        return self.wait(timeout_s)


def _wait_for_port(host: str, port: int, timeout_s: float = 10) -> None:
    """Returns once something listens: the metrics endpoint says that it has started a moment before it has."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=1).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


@contextlib.contextmanager
def run_triton(
    model_repository: Path, *, backends: Path | None = None, arguments: Sequence[str] = ()
) -> Iterator[TritonServer]:
    """Runs a tritonserver with every model of the repository loaded; `arguments` come last on its command line."""
    grpc_port, metrics_port = free_ports(2)
    options = TritonOptions(
        server=find_tritonserver(),
        onnxruntime_library=find_onnxruntime_library(),
        model_repository=model_repository,
        backend_directory=backends or backend_directory(),
        host="127.0.0.1",
        grpc_port=grpc_port,
        metrics_port=metrics_port,
    )
    server = TritonServer(options, arguments)
    try:
        server.wait_for_log(_READY)
        _wait_for_port(options.host, metrics_port)
        yield server
    finally:
        server.stop()
