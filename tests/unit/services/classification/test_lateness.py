"""Texts whose caller has left, or has no time left."""

import asyncio

import pytest

from services.classification.classify_logic import ClassifyOptions
from services.common.call import Call, set_current_call
from services.common.errors import NaiadError, Reason
from tests.unit.services.classification.conftest import MakeLogic
from tests.unit.services.classification.tiny_encoders import FakeChannel


def parameters_of(request: object) -> dict[str, object]:
    parameters = request.parameters.items()  # type: ignore[attr-defined]
    return {name: getattr(value, value.WhichOneof("parameter_choice")) for name, value in parameters}


def call_within(seconds: float | None) -> None:
    deadline_s = None if seconds is None else asyncio.get_running_loop().time() + seconds
    set_current_call(Call(method="", request_id="r", deadline_s=deadline_s))


async def test_the_engine_is_told_the_time_that_is_left(make_logic: MakeLogic, channel: FakeChannel) -> None:
    logic = make_logic()
    call_within(30)
    await logic.classify("sentiment", ["one"], ClassifyOptions(), "texts")
    call_within(None)
    await logic.classify("sentiment", ["one"], ClassifyOptions(), "texts")
    with_deadline, without = map(parameters_of, channel.requests)
    timeout_us = with_deadline["timeout_us"]
    assert isinstance(timeout_us, int) and 20_000_000 < timeout_us <= 30_000_000
    assert "timeout_us" not in without


async def test_what_is_late_or_hopeless_never_reaches_the_engine(
    make_logic: MakeLogic, channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    logic = make_logic()
    call_within(-1)
    with pytest.raises(NaiadError) as late:
        await logic.classify("sentiment", ["one"], ClassifyOptions(), "texts")
    monkeypatch.setattr("services.common.deadline.RecentTimes.median_s", lambda *_: 100.0)
    call_within(50)
    with pytest.raises(NaiadError, match="it takes now") as hopeless:
        await logic.classify("sentiment", ["one"], ClassifyOptions(), "texts")
    assert late.value.reason is hopeless.value.reason is Reason.DEADLINE_EXCEEDED
    assert not channel.requests


async def test_a_caller_that_leaves_has_packs_that_were_not_sent_never_sent(
    make_logic: MakeLogic, channel: FakeChannel
) -> None:
    logic = make_logic(max_pack_tokens=3, max_parallel_packs=2)
    channel.gate = asyncio.Event()
    texts = ["one", "two", "three", "four"]  # a pack each
    task = asyncio.create_task(logic.classify("sentiment", texts, ClassifyOptions(), "texts"))
    async with asyncio.timeout(10):
        while channel.in_flight < 2:
            channel.arrived.clear()
            await channel.arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    channel.gate.set()
    await logic.classify("sentiment", ["one"], ClassifyOptions(), "texts")
    assert len(channel.requests) == 3
