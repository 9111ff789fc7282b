"""The end of background tasks."""

import asyncio

import pytest

from services.common.task_end import cancel_and_wait


async def run_for_ever() -> None:
    await asyncio.Event().wait()


async def test_all_have_ended_when_it_returns() -> None:
    tasks = [asyncio.create_task(run_for_ever()) for _ in range(3)]
    await asyncio.sleep(0)
    await cancel_and_wait(*tasks)
    assert all(task.cancelled() for task in tasks)
    await cancel_and_wait(*tasks)
    await cancel_and_wait()


async def test_what_a_task_had_failed_with_is_raised() -> None:
    async def fail() -> None:
        raise ValueError("a bug")

    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="a bug"):
        await cancel_and_wait(task)


async def test_a_caller_that_is_cancelled_meanwhile_is_cancelled() -> None:
    task = asyncio.create_task(run_for_ever())
    await asyncio.sleep(0)
    caller = asyncio.create_task(cancel_and_wait(task))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert caller.cancelled()
