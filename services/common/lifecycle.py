"""How a service leaves: what it promises callers between SIGTERM and its end, and how long connections last."""

import asyncio
import logging
from dataclasses import dataclass

import grpc

from services.common.health import HealthService
from services.common.setting import setting

# Handlers that were cancelled at the end of the grace have this long for their `finally`.
CLEANUP_TIMEOUT_S = 3.0
_NO_LIMIT_MS = 2**31 - 1  # as gRPC writes it

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LifecycleSettings:
    """How long connections last, and how a service ends after SIGTERM or SIGINT."""

    drain_notice_ms: int = setting(
        500,
        "DRAIN_NOTICE_MS",
        doc="Time after SIGTERM or SIGINT in which health says NOT_SERVING and calls are still accepted, so that"
        " balancers can turn to others first.",
        minimum=0,
        maximum=600_000,
    )
    drain_grace_ms: int = setting(
        20_000,
        "DRAIN_GRACE_MS",
        doc="Time that calls in flight have to finish after that.",
        minimum=0,
        maximum=600_000,
    )
    max_connection_age_ms: int = setting(
        1_800_000,
        "MAX_CONNECTION_AGE_MS",
        doc="A connection this old, give or take a tenth, is asked to end when its calls have, so that clients spread"
        " over servers that were added; 0 lets it live for ever. No call fails by it.",
        minimum=0,
        maximum=86_400_000,
    )
    max_connection_age_grace_ms: int = setting(
        0,
        "MAX_CONNECTION_AGE_GRACE_MS",
        doc="Time that calls on such a connection have to finish; what takes longer is cut off. 0 waits for ever.",
        minimum=0,
        maximum=86_400_000,
    )


def connection_options(settings: LifecycleSettings) -> list[tuple[str, int]]:
    """Options of the gRPC server that bound the age of connections."""
    return [
        ("grpc.max_connection_age_ms", settings.max_connection_age_ms or _NO_LIMIT_MS),
        ("grpc.max_connection_age_grace_ms", settings.max_connection_age_grace_ms or _NO_LIMIT_MS),
    ]


class HandlerTasks:
    """The tasks of calls in flight. grpc.aio forgets those that it cancels, and would let what they use be closed."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def enter(self) -> None:
        """Notes the current task until its end."""
        task = asyncio.current_task()
        if task is not None and task not in self._tasks:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def wait(self, timeout_s: float) -> int:
        """Waits for the end of all; how many still run after `timeout_s`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        return len(self._tasks)


@dataclass(frozen=True)
class DrainTimes:
    """How long calls are still accepted, and then have to finish."""

    notice_s: float = 0.0
    grace_s: float = 0.0


@dataclass(frozen=True)
class Drain:
    """What is told that the service ends, in this order: health, then servicers and connections, then calls."""

    server: grpc.aio.Server
    health: HealthService
    stopping: asyncio.Event
    handlers: HandlerTasks

    async def run(self, times: DrainTimes) -> None:
        """Returns when no call is left: all have finished, or were cancelled at the end of the grace."""
        self.health.shut_down()
        await asyncio.sleep(times.notice_s)
        self.stopping.set()
        stopped = asyncio.ensure_future(self.server.stop(times.grace_s))
        # Watches have no end of their own, and would hold up the drain for all of the grace.
        self.health.end_watches()
        await stopped
        left = await self.handlers.wait(CLEANUP_TIMEOUT_S)
        if left:
            _log.error("calls did not end when they were cancelled", extra={"fields": {"calls": left}})
