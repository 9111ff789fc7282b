"""CPU time of the parts of a running system: the engine, Triton's own threads, the services, the client."""

from __future__ import annotations

import contextlib
from dataclasses import astuple, dataclass
from pathlib import Path

import psutil

# Threads of naiad's backend have names of their own (core/engine/thread_name.h); those of Triton have its.
ENGINE_THREAD_PREFIX = "naiad-"


@dataclass(frozen=True)
class CpuTime:
    """Seconds of CPU. What ended before it was asked is missing."""

    engine_s: float = 0.0  # The backend's threads, which run the model.
    triton_s: float = 0.0  # The rest of tritonserver: its front end above all.
    services_s: float = 0.0
    client_s: float = 0.0  # This process, which asks and reads the answers.

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(*(now - before for now, before in zip(astuple(self), astuple(earlier), strict=True)))

    @property
    def server_s(self) -> float:
        """All but the client."""
        return self.engine_s + self.triton_s + self.services_s

    @property
    def around_engine(self) -> float:
        """The part of the server's CPU that is not the engine's, 0 to 1."""
        return (self.triton_s + self.services_s) / self.server_s if self.server_s else 0.0


def cpu_time(supervisor_pid: int, service: str = "") -> CpuTime:
    """What the processes under a supervisor, and this one, have used until now.

    `services_s` is that of the one `service` ("classification"), or of all.
    """
    engine_s = triton_s = services_s = 0.0
    for child in psutil.Process(supervisor_pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            threads, command = _thread_seconds(child.pid), child.cmdline()
            if "tritonserver" in Path(command[0]).name:
                of_engine = sum(seconds for name, seconds in threads if name.startswith(ENGINE_THREAD_PREFIX))
                engine_s += of_engine
                triton_s += sum(seconds for _, seconds in threads) - of_engine
            elif not service or f"services.{service}" in command:
                services_s += sum(seconds for _, seconds in threads)
    client = psutil.Process().cpu_times()
    return CpuTime(engine_s, triton_s, services_s, client.user + client.system)


def _thread_seconds(pid: int) -> list[tuple[str, float]]:
    """Name and CPU time of each thread of a process."""
    threads = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            nanoseconds = int((task / "schedstat").read_text().split()[0])
            threads.append(((task / "comm").read_text().strip(), nanoseconds / 1e9))
    return threads
