"""Room for bulk streams beside calls that do not wait."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from services.common.admission import Admission, AdmissionOptions
from services.common.errors import NaiadError


@pytest.fixture
def admission() -> Admission:
    return Admission(AdmissionOptions(4, 100, 10, 10))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def hold(admission: Admission, tokens: int, entered: list[int], leave: asyncio.Event) -> None:
    async with admission.bulk_cost(tokens):
        entered.append(tokens)
        await leave.wait()


async def test_bulk_work_waits_in_turn_and_leaves_half_to_others(admission: Admission) -> None:
    entered: list[int] = []
    leaves = [asyncio.Event() for _ in range(3)]
    tasks = [
        asyncio.create_task(hold(admission, tokens, entered, leave))
        for tokens, leave in zip((30, 25, 5), leaves, strict=True)
    ]
    await settle()
    assert entered == [30]  # 25 more are over half, and 5 come after them
    with admission.cost(70):
        leaves[0].set()
        await settle()
        assert entered == [30, 25, 5]
        assert (admission.tokens, admission.bulk_tokens) == (100, 30)
    for leave in leaves:
        leave.set()
    await asyncio.gather(*tasks)
    assert (admission.tokens, admission.bulk_tokens) == (0, 0)


async def test_bulk_work_waits_for_calls_of_others(admission: Admission) -> None:
    entered: list[int] = []
    leave = asyncio.Event()
    with admission.cost(90):
        task = asyncio.create_task(hold(admission, 20, entered, leave))
        await settle()
        assert entered == []
    await settle()
    assert entered == [20]
    leave.set()
    await task


async def test_one_part_may_be_larger_than_all_when_nothing_else_runs(admission: Admission) -> None:
    async with admission.bulk_cost(1_000):
        with pytest.raises(NaiadError, match="too many tokens"), admission.cost(1):
            pass
    assert admission.tokens == 0


async def test_who_leaves_while_waiting_is_skipped(admission: Admission) -> None:
    entered: list[int] = []
    leave = asyncio.Event()
    async with AsyncExitStack() as first:
        await first.enter_async_context(admission.bulk_cost(50))
        gone = asyncio.create_task(hold(admission, 40, entered, leave))
        stays = asyncio.create_task(hold(admission, 10, entered, leave))
        await settle()
        gone.cancel()
        await settle()
        assert entered == []
    await settle()
    assert entered == [10]
    leave.set()
    await stays
    assert (admission.tokens, admission.bulk_tokens) == (0, 0)


async def test_who_leaves_at_the_moment_of_admission_gives_its_room_back(admission: Admission) -> None:
    entered: list[int] = []
    async with AsyncExitStack() as first:
        await first.enter_async_context(admission.bulk_cost(50))
        gone = asyncio.create_task(hold(admission, 40, entered, asyncio.Event()))
        await settle()
    gone.cancel()  # admitted, but not run yet
    await settle()
    assert entered == []
    assert (admission.tokens, admission.bulk_tokens) == (0, 0)
