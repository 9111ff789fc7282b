"""Texts of several calls on their way to the engine together."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classification.pack_queue import EncoderAnswer, EncoderInput, PackLimits, PackQueue
from services.classification.packing import WaitingTexts, fill_pack
from services.common.errors import NaiadError, Reason

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=12)
UNAVAILABLE = NaiadError(Reason.ENGINE_UNAVAILABLE, "the engine cannot be reached")


@dataclass(frozen=True)
class Text:
    """A text of `length` tokens that all are `token`."""

    token: int
    length: int = 1

    @property
    def ids(self) -> list[int]:
        return [self.token] * self.length

    type_ids = ids

    def __len__(self) -> int:
        return self.length


@dataclass
class Engine:
    """Answers each text with its token, when it is told to; a text whose token is negative is not to its liking."""

    packs: list[list[int]] = field(default_factory=list)
    deadlines_s: list[float | None] = field(default_factory=list)
    stopped: list[list[int]] = field(default_factory=list)
    failure: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def compute(self, texts: Sequence[EncoderInput], deadline_s: float | None) -> EncoderAnswer:
        tokens = [text.ids[0] for text in texts]
        self.packs.append(tokens)
        self.deadlines_s.append(deadline_s)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.stopped.append(tokens)
            raise
        if self.failure is not None:
            raise self.failure
        if min(tokens) < 0:
            raise NaiadError(Reason.INVALID_FIELD, "input_ids: a negative one")
        number = len(self.packs)
        return EncoderAnswer([np.full((1, 1), token, np.float32) for token in tokens], number, 10 * number)


async def settle() -> None:
    """Lets everything go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def rows(answer: EncoderAnswer) -> list[float]:
    return [float(row[0, 0]) for row in answer.rows]


@given(calls=st.lists(LENGTHS, min_size=1, max_size=6), max_tokens=st.integers(1, 60))
def test_packs_take_all_texts_of_all_calls_in_order_and_keep_the_bound(calls: list[list[int]], max_tokens: int) -> None:
    waiting = [WaitingTexts(lengths) for lengths in calls]
    taken: dict[WaitingTexts, list[int]] = {call: [] for call in waiting}
    while waiting:
        parts = fill_pack(waiting, max_tokens)
        assert parts[0][0] is waiting[0]  # the first one gets on
        lengths = [call.lengths[place] for call, places in parts for place in places]
        assert len(lengths) == 1 or sum(lengths) <= max_tokens
        for call, places in parts:
            taken[call] += places
        waiting = [call for call in waiting if call.is_waiting]
    assert [taken[call] for call in taken] == [list(range(len(lengths))) for lengths in calls]


def test_a_short_call_shares_the_pack_with_a_long_one_that_came_first() -> None:
    long, short = WaitingTexts([5] * 100), WaitingTexts([4, 4])
    assert fill_pack([long, short], 40) == [(long, range(6)), (short, range(2))]
    assert long.is_waiting
    assert not short.is_waiting


async def test_a_call_is_sent_at_once_and_those_that_come_meanwhile_go_together() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(100, 1))
    calls = [asyncio.create_task(queue.run([Text(token)])) for token in (1, 2, 3)]
    await settle()
    assert engine.packs == [[1]]
    engine.gate.set()
    answers = await asyncio.gather(*calls)
    assert engine.packs == [[1], [2, 3]]
    assert [rows(answer) for answer in answers] == [[1], [2], [3]]


async def test_as_many_packs_as_may_be_are_in_flight() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(2, 3))
    call = asyncio.create_task(queue.run([Text(token) for token in range(1, 11)]))
    await settle()
    assert engine.packs == [[1, 2], [3, 4], [5, 6]]
    engine.gate.set()
    answer = await call
    assert rows(answer) == [*range(1, 11)]
    assert answer.compute_us == 50


async def test_the_wait_for_other_packs_counts_as_waiting() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(100, 1))
    first, second = (asyncio.create_task(queue.run([Text(token)])) for token in (1, 2))
    await asyncio.sleep(0.02)
    engine.gate.set()
    assert (await first).queue_us < (await second).queue_us
    assert (await second).queue_us >= 20_000


async def test_a_call_that_the_engine_refuses_does_not_fail_the_others() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(100, 1))
    calls = [asyncio.create_task(queue.run([Text(token)])) for token in (1, 2, -3, 4)]
    await settle()
    engine.gate.set()
    one, two, three, four = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(three, NaiadError)
    assert three.reason is Reason.INVALID_FIELD
    assert [rows(answer) for answer in (one, two, four) if isinstance(answer, EncoderAnswer)] == [[1], [2], [4]]


@pytest.mark.parametrize("failure", [UNAVAILABLE, ValueError("an unreadable answer")])
async def test_an_engine_that_fails_fails_those_that_it_has_and_is_asked_again(failure: Exception) -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(1, 1))
    engine.failure = failure
    first, second = (asyncio.create_task(queue.run([Text(token)])) for token in (1, 2))
    await settle()
    engine.gate.set()
    for call in (first, second):
        with pytest.raises(type(failure)):
            await call
    engine.failure = None
    assert rows(await queue.run([Text(3)])) == [3]
    assert engine.packs == [[1], [2], [3]]


async def test_a_caller_that_leaves_takes_its_waiting_texts_along_and_no_others() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(2, 1))
    stays = asyncio.create_task(queue.run([Text(1)]))
    leaves_early = asyncio.create_task(queue.run([Text(2), Text(3)]))
    stays_too = asyncio.create_task(queue.run([Text(4), Text(5)]))
    await settle()
    leaves_early.cancel()
    await settle()
    assert leaves_early.cancelled()
    engine.gate.set()
    assert rows(await stays) == [1]
    assert rows(await stays_too) == [4, 5]
    assert engine.packs == [[1], [4, 5]]


async def test_a_caller_that_leaves_while_the_engine_works_does_not_hurt_those_beside_it() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(100, 1))
    first, leaves, stays = (asyncio.create_task(queue.run([Text(token)])) for token in (1, 2, 3))
    await settle()
    gate_of_first, engine.gate = engine.gate, asyncio.Event()
    gate_of_first.set()
    await first
    await settle()
    leaves.cancel()
    await settle()
    engine.gate.set()
    assert rows(await stays) == [3]
    assert leaves.cancelled()
    assert engine.stopped == []


async def test_a_pack_that_nobody_waits_for_any_more_is_stopped_and_the_next_one_sent() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(2, 1))
    leaves, stays = (asyncio.create_task(queue.run([Text(token)] * 3)) for token in (1, 2))
    await settle()
    leaves.cancel()
    await settle()
    assert engine.stopped == [[1, 1]]
    engine.gate.set()
    assert rows(await stays) == [2, 2, 2]
    assert engine.packs == [[1, 1], [2, 2], [2]]


async def test_a_pack_has_time_until_the_latest_deadline_of_its_calls() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(2, 1))
    deadlines_s = (7.0, 5.0, 9.0, 3.0, None)
    calls = [asyncio.create_task(queue.run([Text(1)], deadline_s)) for deadline_s in deadlines_s]
    await settle()
    engine.gate.set()
    await asyncio.gather(*calls)
    assert engine.deadlines_s == [7.0, 9.0, None]


async def test_when_all_is_failed_waiting_calls_end_too_and_the_next_one_is_sent_at_once() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(1, 1))
    first, second = (asyncio.create_task(queue.run([Text(token)])) for token in (1, 2))
    await settle()
    queue.fail_all(UNAVAILABLE)
    for call in (first, second):
        with pytest.raises(NaiadError, match="cannot be reached"):
            await call
    third = asyncio.create_task(queue.run([Text(3)]))
    await settle()
    assert engine.packs == [[1], [3]]  # although the first one is still out
    engine.gate.set()
    assert rows(await third) == [3]


async def test_a_call_that_is_alone_with_the_engine_can_be_cancelled_or_failed_as_well() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(1, 2))
    leaves, fails = (asyncio.create_task(queue.run([Text(token)])) for token in (1, 2))
    await settle()
    leaves.cancel()
    await settle()
    assert leaves.cancelled()
    queue.fail_all(UNAVAILABLE)
    with pytest.raises(NaiadError, match="cannot be reached"):
        await fails
    assert fails.cancelling() == 0
    assert engine.stopped == [[1], [2]]


async def test_a_call_that_is_cancelled_while_it_fails_is_cancelled() -> None:
    engine = Engine()
    queue = PackQueue(engine.compute, PackLimits(1, 1))
    call = asyncio.create_task(queue.run([Text(1)]))
    await settle()
    queue.fail_all(UNAVAILABLE)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
