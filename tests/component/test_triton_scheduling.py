"""Who is served when, and who never can be."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.component.conftest import DECODER, SLOW_DECODER
from tests.support.engine_metrics import EngineMetrics
from tests.support.models import kv_block_bytes
from tests.support.triton import TritonServer, run_triton
from tests.support.triton_stream import Generation, InferStream, generate_request, stop_message
from tests.synthetic.make_decoder import expected_tokens, make_decoder

pytestmark = pytest.mark.component

WAITING = 200


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """`one_place` serves one request at a time; `four_blocks` has a KV cache for 64 tokens."""
    folder: Path = tmp_path_factory.mktemp("engines")
    one_thread = {"intra_op_threads": "1"}
    make_decoder(folder, "one_place", SLOW_DECODER, {**one_thread, "max_active_requests": "1"})
    block_bytes = kv_block_bytes(make_decoder(folder, "four_blocks", DECODER))
    make_decoder(folder, "four_blocks", DECODER, {**one_thread, "kv_cache_bytes": str(4 * block_bytes)})
    with run_triton(folder) as server:
        yield server


def _wait_until_queue_holds(server: TritonServer, requests: int) -> None:
    deadline = time.monotonic() + 30
    while EngineMetrics.parse(server.metrics(), "one_place").total("naiad_num_requests_waiting") != requests:
        assert time.monotonic() < deadline, f"{requests} requests should be waiting"


async def test_200_waiting_requests_are_served_by_priority_and_then_by_arrival(engines: TritonServer) -> None:
    chance = random.Random(5)
    priorities = [chance.choice((-100, -1, 0, 0, 0, 1, 7, 100)) for _ in range(WAITING)]
    order: list[int] = []

    async def wait_for(stream: InferStream, number: int) -> Generation:
        done = await stream.rest(f"{number}", timeout_s=120)
        order.append(number)
        return done

    async with InferStream(engines.grpc_address) as stream:
        # Of the highest priority, or others would push it out.
        await stream.send(generate_request("one_place", "first", [1, 2], 1000, ignore_eos=True, request_priority=100))
        await stream.next_response("first")
        for number, priority in enumerate(priorities):
            await stream.send(generate_request("one_place", f"{number}", [3, 4], 2, request_priority=priority))
        _wait_until_queue_holds(engines, WAITING)
        await stream.send(stop_message("one_place", "first"))
        served = await asyncio.gather(*(wait_for(stream, number) for number in range(WAITING)))
    assert order == sorted(range(WAITING), key=lambda number: -priorities[number])
    assert {tuple(one.tokens) for one in served} == {tuple(expected_tokens(SLOW_DECODER, [3, 4], 2))}


@pytest.mark.parametrize(
    ("prompt_tokens", "max_tokens", "reason"),
    [
        (60, 6, "need 5 blocks of the KV cache, which has 4 blocks of 16 tokens"),
        (500, 100, "must not exceed the model's context of 512 tokens"),
    ],
)
async def test_what_can_never_fit_is_refused_at_once_with_the_reason(
    engines: TritonServer, prompt_tokens: int, max_tokens: int, reason: str
) -> None:
    async with InferStream(engines.grpc_address) as stream:
        # Others fill the engine: the refusal does not wait for them.
        await stream.send(generate_request("four_blocks", "fits", [1] * 10, 54, ignore_eos=True))
        refused = await stream.generate("four_blocks", "refused", [1] * prompt_tokens, max_tokens, ignore_eos=True)
        fits = await stream.rest("fits")
    assert (refused.finish_reason, refused.final["error_code"]) == ("error", "INVALID_ARGUMENT")
    assert reason in str(refused.final["error_message"])
    assert f"the prompt has {prompt_tokens} tokens and max_tokens is {max_tokens}" in str(
        refused.final["error_message"]
    )
    assert fits.tokens == expected_tokens(DECODER, [1] * 10, 54, ignore_eos=True)


async def test_what_just_fits_is_served(engines: TritonServer) -> None:
    async with InferStream(engines.grpc_address) as stream:
        # The last token is never written to the cache.
        done = await stream.generate("four_blocks", "r", [1] * 60, 5, ignore_eos=True)
    assert done.tokens == expected_tokens(DECODER, [1] * 60, 5, ignore_eos=True)
