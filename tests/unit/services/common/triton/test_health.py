import asyncio

from services.common.triton_client import TritonChannel
from services.common.triton_health import TritonHealth
from tests.support.fake_triton import FakeTriton


async def test_health_follows_triton_and_a_broken_stream(fake: FakeTriton, channel: TritonChannel) -> None:
    health = TritonHealth(channel, lambda: ["chat"])
    seen: asyncio.Queue[bool] = asyncio.Queue()
    health.on_probe(seen.put_nowait)
    health.start(interval_ms=10, timeout_ms=500, stall_ms=600)
    try:
        async with asyncio.timeout(10):
            assert await seen.get() is True
            assert health.model_ready("chat")
            assert not health.model_ready("other")
            health.mark_down()
            while await seen.get():
                pass
            fake.ready = False
            while health.up or await seen.get():
                pass
            fake.ready = True
            while not await seen.get():
                pass
            await fake.die()
            while await seen.get():
                pass
    finally:
        await health.close()


async def test_a_frozen_triton_is_down_then_stalled(fake: FakeTriton, channel: TritonChannel) -> None:
    health = TritonHealth(channel, lambda: [])
    seen: asyncio.Queue[bool] = asyncio.Queue()
    stalled = asyncio.Event()
    health.on_probe(seen.put_nowait)
    health.on_stall(stalled.set)
    fake.frozen.set()
    health.start(interval_ms=10, timeout_ms=50, stall_ms=100)
    try:
        async with asyncio.timeout(5):
            assert await seen.get() is False
            await stalled.wait()
    finally:
        await health.close()


async def test_closing_leaves_no_probe_behind(fake: FakeTriton, channel: TritonChannel) -> None:
    health = TritonHealth(channel, lambda: [])
    down = asyncio.Event()
    health.on_probe(lambda up: down.set())
    fake.frozen.set()
    before = asyncio.all_tasks()
    health.start(interval_ms=10, timeout_ms=20, stall_ms=10_000)
    async with asyncio.timeout(5):
        await down.wait()
        await health.close()
    left = [repr(task.get_coro()) for task in asyncio.all_tasks() - before]
    assert not any("TritonHealth" in coroutine for coroutine in left), left
