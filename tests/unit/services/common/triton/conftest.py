"""A Triton of the tests' own, and a channel to it."""

from collections.abc import AsyncIterator

import pytest

from services.common.triton_client import TritonChannel
from tests.support.fake_triton import FakeTriton


@pytest.fixture
async def fake() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    await fake.start()
    yield fake
    await fake.die()


@pytest.fixture
async def channel(fake: FakeTriton) -> AsyncIterator[TritonChannel]:
    channel = TritonChannel(fake.address, retry_after_ms=500)
    yield channel
    await channel.close()
