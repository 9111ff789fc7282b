"""The supervisor as a process of its own: what signals from outside do to it and to its children."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.unit.services.supervisor import fake_children as fake

REPOSITORY_ROOT = Path(__file__).parents[4]


@contextmanager
def supervisor_process(folder: Path, program: str) -> Iterator[subprocess.Popen[str]]:
    """A supervisor over an engine and a service that runs `program`, once all are ready."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.services.supervisor.fake_children", str(folder), program],
        cwd=REPOSITORY_ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "ALL READY" in line:
                break
        else:
            raise AssertionError("the supervisor ended before its children were ready")
        try:
            yield process
        finally:
            process.kill()


def wait_until_gone(pids: list[int], timeout_s: float = 20.0) -> None:
    """Waits until none of the processes runs; the kernel, not we, ends them."""
    deadline_s = time.monotonic() + timeout_s
    while any(fake.is_running(pid) for pid in pids):
        assert time.monotonic() < deadline_s, f"still running: {pids}"
        time.sleep(0.005)


def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    with supervisor_process(tmp_path, fake.IGNORES_SIGTERM) as process:
        pids = fake.process_ids(tmp_path, "engine") + fake.process_ids(tmp_path, "service")
        assert len(pids) == 2
        assert all(fake.is_running(pid) for pid in pids)
        process.kill()
        process.wait()
        wait_until_gone(pids)


def test_ctrl_c_reaches_only_the_supervisor_and_ends_with_0(tmp_path: Path) -> None:
    with supervisor_process(tmp_path, fake.WELL_BEHAVED) as process:
        pids = fake.process_ids(tmp_path, "engine") + fake.process_ids(tmp_path, "service")
        groups = {os.getpgid(pid) for pid in pids}
        assert os.getpgid(process.pid) not in groups
        # What a terminal does: the signal goes to the whole foreground group.
        os.killpg(os.getpgid(process.pid), signal.SIGINT)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, output
        assert "died" not in output
        assert not any(fake.is_running(pid) for pid in pids)
