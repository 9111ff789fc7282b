"""What callers see while a service ends, while connections grow old, and when its event loop is blocked."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.common.health import LIVENESS, HealthService, model_health_name
from services.common.metrics import ServiceMetrics
from services.common.server import RunningServer, ServiceApp, start_server
from services.common.settings import TokenizationSettings
from tests.support.running_service import running

SERVICE = "test.Service"
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class TestService:
    """One unary method that answers at once, one that waits, one stream that counts until it may end."""

    __test__ = False

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.waiting = asyncio.Event()
        self.events: list[str] = []
        self.peers: set[str] = set()
        self.health = HealthService((SERVICE,))

    def app(self) -> ServiceApp:
        async def start(resources: AsyncExitStack) -> None:
            resources.callback(lambda: self.events.append("resources closed"))
            self.health.set_serving(True)

        return ServiceApp(SERVICE, self._add, start, ServiceMetrics(), self.health)

    def _add(self, server: grpc.aio.Server) -> None:
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "Wait": grpc.unary_unary_rpc_method_handler(self._wait),
            "Count": grpc.unary_stream_rpc_method_handler(self._count),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def _echo(self, request: bytes, context: Any) -> bytes:
        self.peers.add(context.peer())
        return request

    async def _wait(self, request: bytes, _: Any) -> bytes:
        self.waiting.set()
        try:
            await self.may_end.wait()
            return request
        finally:
            # As a handler that gives something back which takes a moment: it must not lose what it needs for that.
            for _ in range(20):
                await asyncio.sleep(0.005)
            self.events.append("handler ended")

    async def _count(self, _: bytes, context: Any) -> None:
        self.waiting.set()
        number = 0
        while not self.may_end.is_set():
            await context.write(b"%d" % number)
            number += 1
            await asyncio.sleep(0.01)


def echo(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(f"/{SERVICE}/Echo")


async def health_of(channel: grpc.aio.Channel, name: str, timeout_s: float = 5) -> int:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=timeout_s)).status)


def watch(channel: grpc.aio.Channel, name: str) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Watch(health_pb2.HealthCheckRequest(service=name))


@pytest.fixture
def service() -> TestService:
    return TestService()


Served = tuple[RunningServer, grpc.aio.Channel]


@pytest.fixture
async def served(service: TestService) -> AsyncIterator[Served]:
    async with running(service.app(), TokenizationSettings()) as started:
        yield started


async def test_health_says_so_first_and_calls_are_accepted_for_the_notice(served: Served) -> None:
    server, channel = served
    watching = watch(channel, SERVICE)
    assert (await watching.read()).status == SERVING
    stopping = asyncio.create_task(server.stop(grace_ms=5_000, notice_ms=300))
    assert (await watching.read()).status == NOT_SERVING
    assert await echo(channel)(b"in the notice") == b"in the notice"
    assert not stopping.done()
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await watching.read()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    async with asyncio.timeout(2):  # a watch that is open does not use up the grace
        await stopping
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await echo(channel)(b"too late")
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_calls_in_flight_finish_within_the_grace(service: TestService, served: Served) -> None:
    server, channel = served
    call = channel.unary_unary(f"/{SERVICE}/Wait")(b"kept")
    await service.waiting.wait()
    stopping = asyncio.create_task(server.stop(grace_ms=10_000))
    service.may_end.set()
    assert await call == b"kept"
    await stopping
    assert service.events == ["handler ended", "resources closed"]


async def test_after_the_grace_calls_are_cancelled_and_still_end_before_what_they_use(
    service: TestService, served: Served
) -> None:
    server, channel = served
    call = channel.unary_unary(f"/{SERVICE}/Wait")(b"lost")
    await service.waiting.wait()
    await server.stop(grace_ms=50)
    assert service.events == ["handler ended", "resources closed"]
    with pytest.raises(grpc.aio.AioRpcError) as cancelled:
        await call
    assert cancelled.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_the_age_of_a_connection_fails_no_call(service: TestService) -> None:
    settings = TokenizationSettings(max_connection_age_ms=100)
    async with running(service.app(), settings) as (_, channel):
        stream = channel.unary_stream(f"/{SERVICE}/Count")(b"")
        end = time.monotonic() + 2
        while time.monotonic() < end:
            assert await asyncio.gather(*(echo(channel)(b"x") for _ in range(10))) == [b"x"] * 10
        service.may_end.set()
        numbers = [int(item) async for item in stream]
    assert len(service.peers) > 5, "connections did not age"
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 20, "the stream ended with its connection's age"


async def test_each_model_has_a_name_of_its_own(service: TestService, served: Served) -> None:
    _, channel = served
    chat, other = (model_health_name(SERVICE, model) for model in ("chat", "other"))
    assert chat == "test.Service/chat"
    watching = watch(channel, chat)
    assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    service.health.set_models(SERVICE, {"chat": True, "other": False})
    assert (await watching.read()).status == SERVING
    assert [await health_of(channel, name) for name in (chat, other, SERVICE)] == [SERVING, NOT_SERVING, SERVING]
    service.health.set_models(SERVICE, {"other": True})  # chat is not in the repository any more
    assert (await watching.read()).status == NOT_SERVING
    service.health.shut_down()
    service.health.set_models(SERVICE, {"chat": True})
    assert [await health_of(channel, name) for name in (chat, other, LIVENESS)] == [NOT_SERVING, NOT_SERVING, SERVING]
    watching.cancel()


def serve_in_thread(started: Callable[[asyncio.AbstractEventLoop, RunningServer], None], end: threading.Event) -> None:
    async def serve() -> None:
        server = await start_server(TestService().app(), TokenizationSettings(), 0, 0)
        started(asyncio.get_running_loop(), server)
        await asyncio.to_thread(end.wait)
        await server.stop(grace_ms=0)

    asyncio.run(serve())


def test_a_blocked_event_loop_fails_liveness_until_it_is_free(tmp_path: Path) -> None:
    running_ones: list[tuple[asyncio.AbstractEventLoop, RunningServer]] = []
    started, end, free = threading.Event(), threading.Event(), threading.Event()

    def note(loop: asyncio.AbstractEventLoop, server: RunningServer) -> None:
        running_ones.append((loop, server))
        started.set()

    thread = threading.Thread(target=serve_in_thread, args=(note, end))
    thread.start()
    try:
        assert started.wait(20)
        ((loop, server),) = running_ones
        with grpc.insecure_channel(f"127.0.0.1:{server.endpoints.port}") as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            request = health_pb2.HealthCheckRequest(service=LIVENESS)
            assert stub.Check(request, timeout=5).status == SERVING
            loop.call_soon_threadsafe(free.wait, 20)
            with pytest.raises(grpc.RpcError) as failed:
                stub.Check(request, timeout=0.5)
            assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            free.set()
            assert stub.Check(request, timeout=5).status == SERVING
    finally:
        free.set()
        end.set()
        thread.join(20)
