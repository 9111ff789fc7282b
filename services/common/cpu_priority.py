"""Before whom a service runs when others would fill all cores: it works for a moment at a time, an engine all the time.

On cores that an engine fills, each answer otherwise waits for the end of the engine's turns, some milliseconds each,
and so does each refusal: the more work there is, the later the clients hear that there is too much.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.common import cpu_core
from services.common.setting import setting

AUTO, REALTIME, NORMAL = "auto", "realtime", "normal"
ALWAYS, NEVER = "always", "never"
_LOWEST_REALTIME = 1


class PriorityError(Exception):
    """The priority that is wished for cannot be had. The message is one line."""


@dataclass(frozen=True)
class CpuPrioritySettings:
    """Settings of the processor time."""

    cpu_priority: str = setting(
        AUTO,
        "CPU_PRIORITY",
        doc="Whether the event loop runs before all ordinary processes, with the lowest real-time priority: always"
        " (`realtime`), never (`normal`), or with `auto` where the system permits it (CAP_SYS_NICE, or a limit for"
        " RTPRIO). Tokenizing of long texts and chat templates never do.",
        choices=(AUTO, REALTIME, NORMAL),
    )
    one_core: str = setting(
        AUTO,
        "ONE_CORE",
        doc="Whether the event loop and gRPC's threads share one core, the one that the service starts on: `always`,"
        " `never`, or with `auto` where they run before ordinary processes, since others could keep that core from them"
        " elsewhere. They work in turns, and what they hand each other costs a third less on one core.",
        choices=(AUTO, ALWAYS, NEVER),
    )


@asynccontextmanager
async def grpc_runs_first(settings: CpuPrioritySettings) -> AsyncIterator[bool]:
    """Lets gRPC's threads and this one run before ordinary ones, and on one core; gives whether they run first.

    To be entered before the first channel or server is made. What else this thread starts, threads as well as
    processes, is ordinary, and runs anywhere if it is started as `cpu_core` says. The kernel leaves ordinary processes
    some time even if a thread of these never sleeps (sched(7), real-time throttling). Raises PriorityError when
    real-time priority is insisted on and the system does not permit it.
    """
    runs_first = settings.cpu_priority != NORMAL and _run_first(for_children=True)
    if settings.cpu_priority == REALTIME and not runs_first:
        raise PriorityError("real-time priority is not permitted: CAP_SYS_NICE or a limit for RTPRIO is needed")
    if settings.one_core == ALWAYS or (settings.one_core == AUTO and runs_first):
        cpu_core.stay_on_this_core()
        cpu_core.let_executor_run_anywhere(asyncio.get_running_loop())
    # gRPC starts its threads with the first server, and they stay as long as there is one. This one has no port.
    anchor = grpc.aio.server()
    if runs_first:
        _run_first(for_children=False)
    try:
        yield runs_first
    finally:
        await anchor.stop(None)


def _run_first(for_children: bool) -> bool:
    try:
        policy = os.SCHED_RR if for_children else os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(_LOWEST_REALTIME))
    except (AttributeError, OSError):  # another kind of system; not permitted
        return False
    return True
