"""One child process: started so that it cannot outlive the supervisor, its output kept in a log file."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
LOG_TAIL_BYTES = 16_384


def last_line(lines: Sequence[str]) -> str | None:
    """The last line, where programs usually say why they end; None when there is none."""
    return lines[-1].strip() if lines else None


@dataclass(frozen=True)
class ChildSpec:
    """What to run and how to stop it.

    `command[0]` is an absolute path. `environment` is the whole environment of the child. After SIGTERM the child has
    `stop_timeout_s` seconds to end by itself, then it is killed. `find_cause` picks, from the last lines of the log,
    the one that says why the child ended.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    stop_timeout_s: float = 10.0
    find_cause: Callable[[Sequence[str]], str | None] = last_line


class ChildProcess:
    """A running child. Create it with `start`."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self._process = process

    @classmethod
    async def start(cls, spec: ChildSpec) -> "ChildProcess":
        """Starts the child in its own process group, which a terminal's Ctrl-C does not reach; appends to the log."""
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()))
        with spec.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(spec.environment),
                process_group=0,
            )
        return cls(spec, process)

    @property
    def pid(self) -> int:
        """Process id; also the id of the child's process group."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """False once its end has been seen."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Waits for the end; the exit status, or minus the number of the signal that ended it."""
        return await self._process.wait()

    def describe_exit(self) -> str:
        """How the child ended, for people: "exit code 3", "signal SIGKILL". Only after its end."""
        status = self._process.returncode
        if status is None:
            raise RuntimeError(f"{self.spec.name} is still running")
        if status >= 0:
            return f"exit code {status}"
        return f"signal {signal.Signals(-status).name}"

    async def stop(self, hurry: asyncio.Event) -> bool:
        """Asks the child to end, and kills it after its time or when `hurry` is set. True if it ended by itself."""
        self._signal(signal.SIGTERM)
        ended = asyncio.create_task(self._process.wait())
        hurried = asyncio.create_task(hurry.wait())
        try:
            await asyncio.wait({ended, hurried}, timeout=self.spec.stop_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if ended.done():
                return True
            self.kill()
            await ended
            return False
        finally:
            hurried.cancel()
            ended.cancel()

    def kill(self) -> None:
        """Kills the child and whatever it started in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)


def last_log_lines(path: Path, count: int) -> list[str]:
    """The last `count` lines of a log that are not blank; none if the file is not there."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]
