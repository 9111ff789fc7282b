import asyncio
from typing import Any

import numpy as np
import pytest

from services.common.errors import NaiadError, Reason
from services.common.triton_client import TritonChannel, unavailable
from services.common.triton_messages import infer_request
from tests.support.fake_triton import FakeTriton, infer_response


class HeldAnswer:
    """An answer to a unary call that Triton keeps back until it may `proceed`."""

    def __init__(self, fake: FakeTriton) -> None:
        self.arrived, self.proceed, self.finished = asyncio.Event(), asyncio.Event(), asyncio.Event()
        fake.infer = lambda _: self._answer()

    async def _answer(self) -> Any:
        self.arrived.set()
        await self.proceed.wait()
        self.finished.set()
        return infer_response("", {"logits": np.ones((1, 2), np.float32)}, {}, final=False)

    async def end(self) -> None:
        """Lets Triton answer, which it can only do for a call that was not cancelled."""
        self.proceed.set()
        async with asyncio.timeout(5):
            await self.finished.wait()


async def test_a_unary_call_goes_on_when_its_caller_leaves(fake: FakeTriton, channel: TritonChannel) -> None:
    held = HeldAnswer(fake)
    request = infer_request("sentiment", "", {"input_ids": np.array([1], np.int32)}, {})
    caller = asyncio.create_task(channel.infer(request))
    await held.arrived.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    await held.end()


async def test_a_unary_call_returns_tensors_or_our_error(fake: FakeTriton, channel: TritonChannel) -> None:
    fake.infer = lambda _: infer_response("", {"logits": np.ones((1, 2), np.float32)}, {}, final=False)
    request = infer_request("sentiment", "", {"input_ids": np.array([1], np.int32)}, {})
    assert (await channel.infer(request)).outputs["logits"].tolist() == [[1, 1]]
    await fake.die()
    with pytest.raises(NaiadError) as caught:
        await channel.infer(request)
    assert caught.value.reason is Reason.ENGINE_UNAVAILABLE


async def test_callers_of_an_abandoned_channel_hear_at_once(fake: FakeTriton, channel: TritonChannel) -> None:
    held = HeldAnswer(fake)
    caller = asyncio.create_task(channel.infer(infer_request("sentiment", "", {}, {})))
    await held.arrived.wait()
    channel.abandon(unavailable())
    with pytest.raises(NaiadError):
        await caller
    await held.end()
    assert channel.waiting_calls == 0
