import asyncio

import pytest

from services.common.errors import NaiadError, Reason
from services.common.write_stall import StallGuard

TIMEOUT_S = 0.05


async def test_a_write_that_waits_for_too_long_ends_the_stream() -> None:
    written: list[int] = []

    async def write(message: int) -> None:
        if message == 2:
            await asyncio.Event().wait()
        written.append(message)

    with pytest.raises(NaiadError, match="reads too slowly") as caught:
        async with StallGuard(write, TIMEOUT_S) as guard:
            for message in range(4):
                await guard.write(message)
    assert caught.value.reason is Reason.OVERLOADED
    assert written == [0, 1]


async def test_time_without_a_write_is_the_engines_not_the_clients() -> None:
    timer_ran = asyncio.Event()

    async def write(_: int) -> None:
        await asyncio.sleep(0)

    async with StallGuard(write, TIMEOUT_S) as guard:
        await guard.write(1)
        asyncio.get_running_loop().call_later(3 * TIMEOUT_S, timer_ran.set)
        await timer_ran.wait()
        await guard.write(2)


async def test_other_errors_and_cancellation_pass() -> None:
    async def write(_: int) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        async with StallGuard(write, TIMEOUT_S) as guard:
            await guard.write(1)

    async def stream() -> None:
        async with StallGuard(write, 60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(stream())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
