"""The driver's side of a system's process: start, ask, put to sleep while others are timed, end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from benchmarks.systems.protocol import encode

QUIT_TIMEOUT_S = 60.0


class SystemFailed(Exception):  # noqa: N818 - the name says what happened
    """A system ended, failed or did not answer; the message says which."""


class NotSupported(SystemFailed):
    """The system said that it cannot do this, and is still well."""


class SystemProcess:
    """A worker and all processes that it started."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=sink,
                env={**os.environ, **environment},
                start_new_session=True,
            )
        self._unread = b""
        self._patience_s = QUIT_TIMEOUT_S

    @property
    def pid(self) -> int:
        """Of the worker."""
        return self._process.pid

    def ask(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Sends one message and waits for its answer. Raises SystemFailed; NotSupported if that is the answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(encode(message))
            self._process.stdin.flush()
        except BrokenPipeError:
            raise SystemFailed(self._ended()) from None
        answer: dict[str, Any] = json.loads(self._read_line(time.monotonic() + timeout_s, timeout_s))
        if answer["ok"]:
            return answer
        raise NotSupported(answer["error"]) if answer.get("unsupported") else SystemFailed(answer["error"])

    def _read_line(self, deadline_s: float, timeout_s: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            ready, _, _ = select.select([descriptor], [], [], max(0.0, deadline_s - time.monotonic()))
            if not ready:
                self._patience_s = 0.0
                raise SystemFailed(f"no answer within {timeout_s:.0f} s")
            chunk = os.read(descriptor, 1 << 20)
            if not chunk:
                raise SystemFailed(self._ended())
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return line

    def _ended(self) -> str:
        code = self._process.wait()
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return f"ended with {code}: {lines[-1] if lines else 'it wrote nothing'}"

    def pause(self) -> None:
        """Stops it and its children, so that they take no processor time from the system that is timed."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets them go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._family():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def _family(self) -> list[psutil.Process]:
        try:
            worker = psutil.Process(self._process.pid)
            return [worker, *worker.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def quit(self) -> None:
        """Asks it to end; kills what is still there after QUIT_TIMEOUT_S, at once if it left a question unanswered."""
        assert self._process.stdin is not None and self._process.stdout is not None
        if self._process.stdin.closed:
            return
        self.resume()
        family = self._family()
        with contextlib.suppress(BrokenPipeError, subprocess.TimeoutExpired):
            self._process.stdin.write(encode({"op": "quit"}))
            self._process.stdin.flush()
            self._process.wait(self._patience_s)
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()
