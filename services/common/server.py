"""Assembles and runs the gRPC server of one service."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from services.common import event_loop
from services.common.cpu_core import starting_anywhere
from services.common.cpu_priority import PriorityError, grpc_runs_first
from services.common.door import Door
from services.common.front_door import FrontDoor, FrontDoorError, open_front_door
from services.common.health import HealthService
from services.common.lifecycle import Drain, DrainTimes, connection_options
from services.common.logs import configure_logging
from services.common.metrics import MetricsEndpoint, ServiceMetrics, serve_metrics
from services.common.observability import make_observability
from services.common.setting import SettingsError
from services.common.settings import (
    ClassificationSettings,
    CommonSettings,
    GenerationSettings,
    TokenizationSettings,
    load_settings,
)

_log = logging.getLogger(__name__)
_HEALTH_NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


class StartError(Exception):
    """The process cannot start. The message is one line that says what is wrong."""


@dataclass(frozen=True)
class Endpoints:
    """Where a service listens."""

    host: str
    port: int
    metrics_port: int


@dataclass
class ServiceApp:
    """What a service hands to `run`: its full name, how to add its servicer, and what to start and to end.

    `start` runs before the port is open; what it pushes on `resources` is closed after the last call has ended.
    `start` sets `health` to serving when it is, or starts what does. `door` admits calls; without one all come in.
    """

    service_name: str
    add_servicer: Callable[[grpc.aio.Server], None]
    start: Callable[[AsyncExitStack], Awaitable[None]]
    metrics: ServiceMetrics
    health: HealthService
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    door: Door | None = None


class RunningServer:
    """A started server. `stop` drains it."""

    def __init__(self, drain: Drain, endpoints: Endpoints, resources: AsyncExitStack) -> None:
        self._drain = drain
        self._resources = resources
        self.endpoints = endpoints

    @property
    def stopping(self) -> asyncio.Event:
        """Set once no new calls are accepted."""
        return self._drain.stopping

    async def stop(self, grace_ms: int, notice_ms: int = 0) -> None:
        """NOT_SERVING first; after `notice_ms` no new calls, `grace_ms` for those in flight; then all is closed."""
        await self._drain.run(DrainTimes(notice_s=notice_ms / 1000, grace_s=grace_ms / 1000))
        await self._resources.aclose()


def _server_options(settings: CommonSettings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", 8 * 1024),
        ("grpc.max_concurrent_streams", settings.max_concurrent_streams),
        ("grpc.so_reuseport", 0),  # else a second process would silently share the port
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 30_000),
        ("grpc.keepalive_permit_without_calls", 1),
        *connection_options(settings),
    ]


async def start_server(app: ServiceApp, settings: CommonSettings, port: int, metrics_port: int) -> RunningServer:
    """Opens the ports and starts to serve. Raises StartError."""
    async with AsyncExitStack() as resources:
        with starting_anywhere():
            observability = make_observability(app.service_name, settings)
        resources.push_async_callback(asyncio.to_thread, observability.close)
        try:
            front_door = open_front_door(settings, app.metrics, app.door, observability)
        except FrontDoorError as error:
            raise StartError(str(error)) from error
        metrics = _serve_metrics(app, front_door, settings, metrics_port)
        resources.callback(metrics.close)
        server = grpc.aio.server(interceptors=(front_door.interceptor,), options=_server_options(settings))
        app.add_servicer(server)
        health_pb2_grpc.add_HealthServicer_to_server(app.health, server)
        if settings.reflection != "off":
            reflection.enable_server_reflection((app.service_name, _HEALTH_NAME, reflection.SERVICE_NAME), server)
        try:
            bound_port = front_door.add_port(server, f"{settings.host}:{port}")
        except RuntimeError as error:
            raise StartError(f"cannot listen on {settings.host}:{port}: the port is in use or not permitted") from error
        await _start_health_port(app, settings, resources)
        resources.push_async_callback(front_door.files.close)
        front_door.files.start()
        loop = asyncio.get_running_loop()
        app.metrics.event_loop_tasks.set_function(lambda: len(asyncio.all_tasks(loop)))
        await app.start(resources)
        await server.start()
        endpoints = Endpoints(settings.host, bound_port, metrics.port)
        drain = Drain(server, app.health, app.stopping, front_door.interceptor.handlers)
        return RunningServer(drain, endpoints, resources.pop_all())
    raise AssertionError("unreachable: an exit stack of closers swallows nothing")


def _serve_metrics(app: ServiceApp, door: FrontDoor, settings: CommonSettings, port: int) -> MetricsEndpoint:
    try:
        metrics = serve_metrics(app.metrics.registry, settings.host, port, door.metrics_pair(settings))
    except OSError as error:
        raise StartError(f"cannot serve metrics on {settings.host}:{port}: {error.strerror}") from error
    door.follow_in(metrics)
    return metrics


async def _start_health_port(app: ServiceApp, settings: CommonSettings, resources: AsyncExitStack) -> None:
    """The port for probes that cannot speak TLS: nothing but health is there."""
    if settings.health_port == 0:
        return
    server = grpc.aio.server(options=_server_options(settings))
    health_pb2_grpc.add_HealthServicer_to_server(app.health, server)
    try:
        server.add_insecure_port(f"{settings.host}:{settings.health_port}")
    except RuntimeError as error:
        raise StartError(
            f"cannot listen on {settings.host}:{settings.health_port}: the port is in use or not permitted"
        ) from error
    await server.start()
    resources.push_async_callback(server.stop, None)


async def _serve(app: ServiceApp, settings: CommonSettings, port: int, metrics_port: int) -> None:
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop_requested.set)
    server = await start_server(app, settings, port, metrics_port)
    # Modules and models live as long as the process. Looking through them all again and again would stop every call for
    # some milliseconds.
    gc.collect()
    gc.freeze()
    fields = {
        "service": app.service_name,
        "host": server.endpoints.host,
        "port": server.endpoints.port,
        "metrics_port": server.endpoints.metrics_port,
    }
    _log.info("listening", extra={"fields": fields})
    await stop_requested.wait()
    times = {"notice_ms": settings.drain_notice_ms, "grace_ms": settings.drain_grace_ms}
    _log.info("draining", extra={"fields": times})
    await server.stop(**times)
    _log.info("stopped")


SettingsT = TypeVar("SettingsT", TokenizationSettings, GenerationSettings, ClassificationSettings)


def run(settings_class: type[SettingsT], build: Callable[[SettingsT], ServiceApp]) -> int:
    """Runs one service until SIGTERM or SIGINT; the exit code. A failure to start is one line on standard error."""
    try:
        settings = load_settings(settings_class)
        configure_logging(settings.log_level)

        async def main() -> None:
            async with grpc_runs_first(settings):
                await _serve(build(settings), settings, settings.port, settings.metrics_port)

        event_loop.run(main())
    except (SettingsError, StartError, PriorityError) as error:
        print(f"naiad: {error}", file=sys.stderr)
        return 1
    return 0
