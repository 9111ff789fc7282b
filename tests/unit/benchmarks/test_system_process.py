"""The driver and a system's process, with a scripted system."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.systems.process import NotSupported, SystemFailed, SystemProcess
from benchmarks.systems.protocol import Answer, Request, run_message
from tests.support.stack import REPOSITORY_ROOT
from tests.unit.benchmarks.fake_system import FakeSystem

PATIENCE_S = 60.0


@pytest.fixture
def process(tmp_path: Path) -> Iterator[SystemProcess]:
    command = [sys.executable, "-m", "benchmarks.systems.worker", "tests.unit.benchmarks.fake_system"]
    started = SystemProcess(command, {"PYTHONPATH": str(REPOSITORY_ROOT)}, tmp_path / "logs" / "fake.log")
    yield started
    started.quit()


def _run(process: SystemProcess, *prompt: int, timeout_s: float = PATIENCE_S, reuse_prefix: bool = False) -> Answer:
    answer = process.ask(run_message([Request(prompt, 2)], reuse_prefix=reuse_prefix), timeout_s)
    return Answer.parse(answer["answers"][0])


def test_tokens_and_times_come_back_as_they_were_and_prints_do_not_disturb(process: SystemProcess) -> None:
    about = process.ask({"op": "load", "options": {"threads": 2}}, PATIENCE_S)["about"]
    assert about["settings"] == "{'threads': 2}"
    assert _run(process, 1, 7) == Answer([8, 9], [0.5, 1.5])
    with pytest.raises(SystemFailed, match="no operation 'embed'"):
        process.ask({"op": "embed", "texts": ["a", "b"]}, PATIENCE_S)


def test_what_a_system_cannot_do_is_told_apart_from_a_fault_and_neither_ends_it(process: SystemProcess) -> None:
    with pytest.raises(NotSupported, match="no prefix cache"):
        _run(process, 1, reuse_prefix=True)
    with pytest.raises(SystemFailed, match="RuntimeError: no such kernel"):
        _run(process, FakeSystem.RAISE)
    with pytest.raises(SystemFailed, match="no operation 'sing'"):
        process.ask({"op": "sing"}, PATIENCE_S)
    assert _run(process, 1).tokens == [2, 3]


def test_a_crash_is_reported_with_the_exit_code_and_the_last_line(process: SystemProcess) -> None:
    with pytest.raises(SystemFailed, match="ended with 3: out of memory"):
        _run(process, FakeSystem.CRASH)
    with pytest.raises(SystemFailed, match="ended with 3"):
        _run(process, 1)


def test_a_system_that_does_not_answer_is_given_up(process: SystemProcess) -> None:
    with pytest.raises(SystemFailed, match="no answer within 0 s"):
        _run(process, FakeSystem.HANG, timeout_s=0.1)


def test_a_paused_system_is_stopped_and_goes_on_where_it_was(process: SystemProcess) -> None:
    _run(process, 1)
    process.pause()
    deadline = time.monotonic() + PATIENCE_S
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert time.monotonic() < deadline
    process.resume()
    assert _run(process, 1).tokens == [2, 3]


def test_a_paused_system_ends_when_it_is_told_to(process: SystemProcess) -> None:
    _run(process, 1)
    process.pause()
    process.quit()
    assert not psutil.pid_exists(process.pid)
