"""Small programs that stand for Triton and the services, and a supervisor over them that can run as a process."""

import asyncio
import os
import sys
from pathlib import Path

from services.supervisor.child import ChildSpec
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.supervisor import Member, Supervisor

# Each says that it is ready by appending its process id to the file named in its first argument.
READY = "import os, signal, sys, time; open(sys.argv[1], 'a').write(f'{os.getpid()}\\n');"
WELL_BEHAVED = READY + "signal.pause()"
IGNORES_SIGTERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + READY + "\nwhile True: signal.pause()"
)
CRASHES_WHEN_READY = READY + "print('disk is full'); sys.exit(3)"
CRASHES_AT_ONCE = "import sys; print('E1123 10:00:00.0 1 x.cc:1] model chat failed to load'); print('bye'); sys.exit(7)"
HANGS = "import signal; signal.pause()"
SAYS_WHEN_STOPPED = (
    "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[2], 'a').write(sys.argv[3] + '\\n'),"
    "sys.exit(0)));" + READY + "signal.pause()"
)
WITH_GRANDCHILD = (
    "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import signal; signal.pause()']);"
    + (IGNORES_SIGTERM)
)


def member(name: str, program: str, folder: Path, *arguments: str, **options: float) -> Member:
    """A member that runs `program`. Options: stop_timeout_s, start_timeout_s."""
    ready = folder / f"{name}.ready"
    spec = ChildSpec(
        name=name,
        command=(sys.executable, "-I", "-S", "-c", program, str(ready), *arguments),
        environment=dict(os.environ),
        log_path=folder / f"{name}.log",
        stop_timeout_s=options.get("stop_timeout_s", 10.0),
    )
    starts_seen = 0

    async def wait_ready() -> None:
        nonlocal starts_seen
        starts_seen += 1
        await until_started(folder, name, starts_seen)

    return Member(spec, wait_ready, options.get("start_timeout_s", 20.0))


async def until_started(folder: Path, name: str, times: int) -> None:
    """Waits until the child `name` has said that it is ready for the `times`th time."""
    while len(process_ids(folder, name)) < times:  # noqa: ASYNC110 - another process tells, through a file
        await asyncio.sleep(0.005)


def process_ids(folder: Path, name: str) -> list[int]:
    """Ids of all processes that the child `name` has been, oldest first."""
    ready = folder / f"{name}.ready"
    return [int(line) for line in ready.read_text().splitlines()] if ready.exists() else []


def is_running(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def main() -> int:
    """Runs a supervisor over two members; arguments: folder, program of the second."""
    folder, program = Path(sys.argv[1]), sys.argv[2]
    stages = [[member("engine", WELL_BEHAVED, folder)], [member("service", program, folder)]]
    reporter = Reporter()
    try:
        asyncio.run(Supervisor(stages, reporter, on_ready=lambda: reporter.plain("ALL READY")).run())
    except StartError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
