"""In the running system the event loops of services run first, each on one core, where the system permits it."""

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from naiad.v1 import classification_pb2, classification_pb2_grpc, tokenization_pb2, tokenization_pb2_grpc

from tests.support.stack import SERVICES, Stack

pytestmark = pytest.mark.e2e

_LONG_TEXT = "word " * 1000
_TRY = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"


def is_permitted() -> bool:
    """Whether processes of this test may have it."""
    return subprocess.run([sys.executable, "-c", _TRY], check=False, capture_output=True).returncode == 0


def policies(pid: int) -> dict[str, set[int]]:
    """Of the threads of a process, by their names."""
    found: dict[str, set[int]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            found.setdefault((task / "comm").read_text().strip(), set()).add(_policy(int(task.name)))
    return found


def cores(pid: int) -> dict[int, set[frozenset[int]]]:
    """What the threads of a process may run on, by their policies."""
    found: dict[int, set[frozenset[int]]] = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            thread = int(task.name)
            found.setdefault(_policy(thread), set()).add(frozenset(os.sched_getaffinity(thread)))
    return found


def _policy(thread: int) -> int:
    return os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK


def children(stack: Stack) -> Iterator[tuple[str, psutil.Process]]:
    """All processes below `naiad serve` by the last parts of their names."""
    for process in psutil.Process(stack.process.pid).children(recursive=True):
        command = process.cmdline() or [process.name()]
        yield next((word for word in command if word.startswith("services.")), command[0]), process


def use_all_threads(stack: Stack) -> None:
    """So that the threads that tokenize have begun."""
    classification = classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))
    tokenization = tokenization_pb2_grpc.TokenizationServiceStub(stack.channel("tokenization"))
    classification.Embed(classification_pb2.EmbedRequest(model="embed", texts=[_LONG_TEXT], truncate=True), timeout=60)
    tokenization.CountTokens(tokenization_pb2.CountTokensRequest(model="chat", texts=[_LONG_TEXT]), timeout=60)


def test_only_the_loops_of_services_run_first(stack: Stack) -> None:
    use_all_threads(stack)
    wanted = os.SCHED_RR if is_permitted() else os.SCHED_OTHER
    processes = dict(children(stack))
    for service in SERVICES:
        process = processes.pop(f"services.{service}")
        assert _policy(process.pid) == wanted, service
        found = policies(process.pid)
        assert found["event_engine"] == {wanted}, service
        assert set.union(*found.values()) == {wanted, os.SCHED_OTHER}, f"all of {service} runs first"
    assert any("tritonserver" in name for name in processes)
    for name, process in processes.items():
        assert set.union(*policies(process.pid).values()) == {os.SCHED_OTHER}, name
    assert _policy(threading.get_native_id()) == os.SCHED_OTHER


def test_who_runs_first_stays_on_one_core_and_all_else_runs_anywhere(stack: Stack) -> None:
    use_all_threads(stack)
    everywhere = frozenset(os.sched_getaffinity(0))
    processes = dict(children(stack))
    if is_permitted():
        for service in SERVICES:
            pid = processes.pop(f"services.{service}").pid
            deadline = time.monotonic() + 10
            while cores(pid)[os.SCHED_OTHER] != {everywhere} and time.monotonic() < deadline:
                os.sched_yield()  # a thread that has just begun is bound for a moment
            found = cores(pid)
            (core,) = found[os.SCHED_RR]
            assert len(core) == 1, service
            assert found[os.SCHED_OTHER] == {everywhere}, service
    for name, process in processes.items():
        assert cores(process.pid)[os.SCHED_OTHER] == {everywhere}, name
