import asyncio
from typing import Any

import numpy as np
import pytest

from services.common.errors import NaiadError, Reason
from services.common.triton_client import TritonChannel, unavailable
from services.common.triton_messages import infer_request
from tests.support.fake_triton import FakeTriton, infer_response


async def test_a_unary_call_goes_on_when_its_caller_leaves(fake: FakeTriton, channel: TritonChannel) -> None:
    arrived, proceed, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer() -> Any:
        arrived.set()
        await proceed.wait()
        finished.set()
        return infer_response("", {"logits": np.ones((1, 2), np.float32)}, {}, final=False)

    fake.infer = lambda _: answer()
    request = infer_request("sentiment", "", {"input_ids": np.array([1], np.int32)}, {})
    caller = asyncio.create_task(channel.infer(request))
    await arrived.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    proceed.set()
    async with asyncio.timeout(5):
        await finished.wait()


async def test_a_unary_call_returns_tensors_or_our_error(fake: FakeTriton, channel: TritonChannel) -> None:
    fake.infer = lambda _: infer_response("", {"logits": np.ones((1, 2), np.float32)}, {}, final=False)
    request = infer_request("sentiment", "", {"input_ids": np.array([1], np.int32)}, {})
    assert (await channel.infer(request)).outputs["logits"].tolist() == [[1, 1]]
    await fake.die()
    with pytest.raises(NaiadError) as caught:
        await channel.infer(request)
    assert caught.value.reason is Reason.ENGINE_UNAVAILABLE


async def test_callers_of_an_abandoned_channel_hear_at_once(fake: FakeTriton, channel: TritonChannel) -> None:
    arrived, proceed, finished = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer() -> Any:
        arrived.set()
        await proceed.wait()
        finished.set()
        return infer_response("", {"logits": np.ones((1, 2), np.float32)}, {}, final=False)

    fake.infer = lambda _: answer()
    caller = asyncio.create_task(channel.infer(infer_request("sentiment", "", {}, {})))
    await arrived.wait()
    channel.abandon(unavailable())
    with pytest.raises(NaiadError):
        await caller
    proceed.set()  # the call itself was not cancelled
    async with asyncio.timeout(5):
        await finished.wait()
    assert channel.waiting_calls == 0
