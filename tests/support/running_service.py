"""Runs a service in the test's own process, on free ports."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.server import RunningServer, ServiceApp, start_server
from services.common.settings import CommonSettings


@asynccontextmanager
async def running(app: ServiceApp, settings: CommonSettings) -> AsyncIterator[tuple[RunningServer, grpc.aio.Channel]]:
    """The service and a channel to it."""
    server = await start_server(app, settings, 0, 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{server.endpoints.port}") as channel:
            yield server, channel
    finally:
        await server.stop(grace_ms=0)


async def wait_for_health(channel: grpc.aio.Channel, service: str, status: int) -> None:
    """Returns when Watch reports `status`."""
    watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=service))
    async for response in watch:
        if response.status == status:
            watch.cancel()
            return
    raise AssertionError("the watch ended")
