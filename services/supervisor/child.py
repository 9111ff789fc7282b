"""One child process: started so that it cannot outlive the supervisor, its output kept in a log file."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

LAUNCHER = Path(__file__).with_name("launcher.py")
LOG_TAIL_BYTES = 65_536


class LogReading:
    """How the log of a child that has ended is read. A child with a log of its own style has a subclass."""

    def important(self, lines: Sequence[str]) -> Sequence[str]:
        """Lines that help to see why it ended."""
        return lines

    def cause(self, lines: Sequence[str]) -> str | None:
        """Why it ended, of the important lines: programs usually say it last. None when it said nothing."""
        return lines[-1].strip() if lines else None


@dataclass(frozen=True)
class ChildSpec:
    """What to run and how to stop it.

    `command[0]` is an absolute path. `environment` is the whole environment of the child. After SIGTERM the child has
    `stop_timeout_s` seconds to end by itself, then it is killed.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    stop_timeout_s: float = 10.0
    log_reading: LogReading = field(default_factory=LogReading)


class ChildProcess:
    """A running child. Create it with `start`."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process, log_start: int) -> None:
        self.spec = spec
        self._process = process
        self._log_start = log_start

    @classmethod
    async def start(cls, spec: ChildSpec) -> "ChildProcess":
        """Starts the child in its own process group, which a terminal's Ctrl-C does not reach; appends to the log."""
        spec.log_path.parent.mkdir(parents=True, exist_ok=True)
        launcher = (sys.executable, "-I", "-S", str(LAUNCHER), str(os.getpid()))
        with spec.log_path.open("ab") as log:
            log_start = log.tell()
            process = await asyncio.create_subprocess_exec(
                *launcher,
                *spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(spec.environment),
                process_group=0,
            )
        return cls(spec, process, log_start)

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

    def important_log_lines(self) -> Sequence[str]:
        """Lines of this process's log, of its last part, that help to see why it ended."""
        with self.spec.log_path.open("rb") as log:
            log.seek(max(self._log_start, self.spec.log_path.stat().st_size - LOG_TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return self.spec.log_reading.important([line.rstrip() for line in text.splitlines() if line.strip()])

    def describe_end(self) -> str:
        """How the child ended, and why as far as its log tells. Only after its end."""
        if self._process.returncode == -signal.SIGKILL:
            # It had no chance to log anything.
            return "signal SIGKILL: somebody killed it, or memory ran out"
        cause = self.spec.log_reading.cause(self.important_log_lines())
        return f"{self._describe_exit()}: {cause}" if cause else self._describe_exit()

    def _describe_exit(self) -> str:
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
