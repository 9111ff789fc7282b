"""Before whom a service runs when others would fill all cores: it works for a moment at a time, an engine all the time.

On cores that an engine fills, each answer otherwise waits for the end of the engine's turns, some milliseconds each,
and so does each refusal: the more work there is, the later the clients hear that there is too much.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from services.common.setting import setting

AUTO, REALTIME, NORMAL = "auto", "realtime", "normal"
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


@asynccontextmanager
async def grpc_runs_first(wish: str) -> AsyncIterator[bool]:
    """Lets gRPC's threads and this one run before ordinary ones; gives whether they do.

    To be entered before the first channel or server is made. What else this thread starts, threads as well as
    processes, is ordinary. The kernel leaves ordinary processes some time even if a thread of these never sleeps
    (sched(7), real-time throttling). Raises PriorityError when `wish` is REALTIME and the system does not permit it.
    """
    if wish == NORMAL or not _run_first(for_children=True):
        if wish == REALTIME:
            raise PriorityError("real-time priority is not permitted: CAP_SYS_NICE or a limit for RTPRIO is needed")
        yield False
        return
    # gRPC starts its threads with the first server, and they stay as long as there is one. This one has no port.
    anchor = grpc.aio.server()
    _run_first(for_children=False)
    try:
        yield True
    finally:
        await anchor.stop(None)


def _run_first(for_children: bool) -> bool:
    try:
        policy = os.SCHED_RR if for_children else os.SCHED_RR | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(_LOWEST_REALTIME))
    except (AttributeError, OSError):  # another kind of system; not permitted
        return False
    return True
