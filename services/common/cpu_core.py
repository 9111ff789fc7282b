"""One core for the threads of a service that work in turns; the others run anywhere.

The event loop and gRPC's threads hand each other every message. On two cores each hand-over wakes a thread on the other
core, for one message at a time; on one core that thread runs when the loop has nothing left to write, and takes all.
"""

import asyncio
import contextlib
import os
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_PROCESSOR_FIELD = 39  # of /proc/thread-self/stat, counted from 1 (proc(5))


def _permitted_cores() -> Set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else frozenset()


_ALL_CORES = _permitted_cores()  # as they were when the process began


def stay_on_this_core() -> None:
    """Binds this thread, and the threads that it starts from now on, to the core that the kernel has put it on."""
    if len(_ALL_CORES) > 1:
        _allow({_this_core()})


def run_anywhere() -> None:
    """Lets this thread run on all cores that the process may use. For threads that a bound one starts."""
    if _permitted_cores() != _ALL_CORES:
        _allow(_ALL_CORES)


@contextlib.contextmanager
def starting_anywhere() -> Iterator[None]:
    """What this thread starts meanwhile, threads as well as processes, runs on all cores that the process may use."""
    before = _permitted_cores()
    run_anywhere()
    try:
        yield
    finally:
        if before != _ALL_CORES:
            _allow(before)


def let_executor_run_anywhere(loop: asyncio.AbstractEventLoop) -> None:
    """Gives `loop` a default executor whose threads are not bound as the loop is."""
    loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio", initializer=run_anywhere))


def _allow(cores: Set[int]) -> None:
    with contextlib.suppress(OSError):  # the machine's cores have changed since: any will do
        os.sched_setaffinity(0, cores)


def _this_core() -> int:
    # The name of the program, the second field, is in parentheses and may hold anything.
    rest = Path("/proc/thread-self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(rest[_PROCESSOR_FIELD - 3])
