"""Several scripted Tritons behind one pool."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.common import triton_pool
from services.common.errors import NaiadError, Reason
from services.common.metrics import TritonMetrics
from services.common.settings import TritonSettings
from services.common.triton_inference import PooledInference, RetryBudget
from services.common.triton_member import Lease, TritonMember
from services.common.triton_messages import infer_request
from services.common.triton_pool import TritonPool
from tests.support.fake_triton import FakeTriton, infer_response, parameters_of

MODEL = "sentiment"
REQUEST = infer_request(MODEL, "r", {"input_ids": np.array([1, 2, 3], np.int32)}, {})


@asynccontextmanager
async def pool_of(*fakes: FakeTriton, address: str = "", **settings: Any) -> AsyncIterator[TritonPool]:
    """A started pool of encoders' Tritons with fast probes."""
    fast: dict[str, Any] = {"triton_probe_interval_ms": 10, "triton_probe_timeout_ms": 100, "retry_after_ms": 500}
    named = address or ",".join(fake.address for fake in fakes)
    chosen = TritonSettings(triton_address=named, **{**fast, **settings})
    pool = TritonPool(chosen, lambda: [MODEL], TritonMetrics(CollectorRegistry()))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.close()


@pytest.fixture
async def fakes() -> AsyncIterator[list[FakeTriton]]:
    """Two Tritons that say who they are."""
    both = [FakeTriton(), FakeTriton()]
    for number, fake in enumerate(both):
        fake.infer = lambda _, number=number: answer_of(number)
        await fake.start()
    yield both
    for fake in both:
        await fake.die()


def answer_of(number: int) -> Any:
    return infer_response("", {"logits": np.full((1, 2), number, np.float32)}, {}, final=False)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - not all that is waited for has an event
            await asyncio.sleep(0.005)


def serving(pool: TritonPool) -> list[bool]:
    return [member.is_serving for member in pool.members]


async def test_the_pool_is_up_and_a_model_ready_as_long_as_one_triton_has_it(fakes: list[FakeTriton]) -> None:
    async with pool_of(*fakes) as pool:
        heard: list[bool] = []
        pool.on_change(heard.append)
        await until(lambda: all(serving(pool)))
        fakes[0].unloaded.add(MODEL)
        await until(lambda: serving(pool) == [False, True])
        assert pool.up
        assert pool.model_ready(MODEL)
        assert {pool.choose(MODEL) for _ in range(4)} == {pool.members[1]}
        await fakes[1].die()
        await until(lambda: not pool.up)
        assert not pool.model_ready(MODEL)
        assert pool.choose(MODEL) is None
        await until(lambda: heard[-1] is False)  # told a turn of the event loop later
        assert heard[-1] is False


async def test_requests_go_to_the_least_loaded_and_prompts_where_they_were(fakes: list[FakeTriton]) -> None:
    async with pool_of(*fakes, triton_affinity_slack_tokens=100) as pool:
        await until(lambda: all(serving(pool)))
        assert {pool.choose(MODEL) for _ in range(2)} == set(pool.members)
        prompts = [np.arange(start, start + 80, dtype=np.int32) for start in range(20)]
        preferred = [pool.choose(MODEL, prompt) for prompt in prompts]
        assert set(preferred) == set(pool.members)
        longer = [np.concatenate([prompt, np.array([9, 9], np.int32)]) for prompt in prompts]
        assert [pool.choose(MODEL, prompt) for prompt in longer] == preferred
        lease = Lease(pool.members[0], 101)
        assert {pool.choose(MODEL, prompt) for prompt in prompts} == {pool.members[1]}
        lease.release()
        lease.release()
        assert [member.tokens_in_flight for member in pool.members] == [0, 0]


async def test_a_call_whose_triton_dies_is_answered_by_another(fakes: list[FakeTriton]) -> None:
    arrived = asyncio.Event()

    async def never() -> None:
        arrived.set()
        await asyncio.Event().wait()

    fakes[0].infer = lambda _: never()
    async with pool_of(*fakes) as pool:
        await until(lambda: all(serving(pool)))
        inference = PooledInference(pool, max_repetitions=2)
        lease = Lease(pool.members[1], 10)  # so that the first is the least loaded
        call = asyncio.create_task(inference.infer(REQUEST))
        await arrived.wait()
        lease.release()
        await fakes[0].die()
        async with asyncio.timeout(1):
            assert (await call).outputs["logits"][0, 0] == 1
        assert pool.choose(MODEL) is pool.members[1]


async def test_a_call_at_a_frozen_triton_is_answered_by_another(fakes: list[FakeTriton]) -> None:
    arrived = asyncio.Event()

    async def never() -> None:
        fakes[0].frozen.set()
        arrived.set()
        await asyncio.Event().wait()

    fakes[0].infer = lambda _: never()
    async with pool_of(*fakes) as pool:
        await until(lambda: all(serving(pool)))
        lease = Lease(pool.members[1], 10)
        call = asyncio.create_task(PooledInference(pool, 2).infer(REQUEST))
        await arrived.wait()
        lease.release()
        async with asyncio.timeout(5):
            assert (await call).outputs["logits"][0, 0] == 1


async def test_a_lone_triton_that_stalls_fails_its_calls(fakes: list[FakeTriton]) -> None:
    fakes[0].infer = lambda _: asyncio.Event().wait()
    async with pool_of(fakes[0], triton_stall_timeout_ms=200) as pool:
        await until(lambda: pool.up)
        call = asyncio.create_task(PooledInference(pool, 2).infer(REQUEST))
        await until(lambda: pool.members[0].requests_in_flight == 1)
        fakes[0].frozen.set()
        async with asyncio.timeout(5):
            with pytest.raises(NaiadError) as caught:
                await call
        assert caught.value.reason is Reason.ENGINE_UNAVAILABLE
        assert pool.members[0].requests_in_flight == 0


async def test_a_triton_that_answers_requests_is_only_busy_when_a_probe_is_late(fakes: list[FakeTriton]) -> None:
    async with pool_of(fakes[0], triton_stall_timeout_ms=200) as pool:
        inference = PooledInference(pool, 2)
        await until(lambda: pool.up)
        told: list[bool] = []
        pool.on_change(told.append)
        fakes[0].frozen.set()  # its probes, not its inference
        frozen_s = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - frozen_s < 0.6:
            await inference.infer(REQUEST)
        assert pool.up and False not in told
        await until(lambda: not pool.up)  # once it is silent altogether


async def test_a_triton_that_answers_probes_but_no_request_is_given_up(fakes: list[FakeTriton]) -> None:
    fakes[0].infer = lambda _: asyncio.Event().wait()
    async with pool_of(*fakes, triton_silence_timeout_ms=200) as pool:
        await until(lambda: all(serving(pool)))
        lease = Lease(pool.members[1], 10)
        call = asyncio.create_task(PooledInference(pool, 2).infer(REQUEST))
        await until(lambda: pool.members[0].requests_in_flight == 1)
        lease.release()
        async with asyncio.timeout(5):
            assert (await call).outputs["logits"][0, 0] == 1
        assert all(serving(pool)), "its probes are as good as ever"
        assert {pool.choose(MODEL) for _ in range(4)} == {pool.members[1]}


async def test_a_call_waits_for_a_triton_to_come_back_but_not_for_ever(fakes: list[FakeTriton]) -> None:
    async with pool_of(*fakes, triton_failover_wait_ms=300) as pool:
        await until(lambda: all(serving(pool)))
        inference = PooledInference(pool, max_repetitions=5)
        for fake in fakes:
            fake.infer = lambda _: asyncio.Event().wait()
        for fate in ("back", "lost"):
            call = asyncio.create_task(inference.infer(REQUEST))
            await until(lambda: sum(member.requests_in_flight for member in pool.members) == 1)
            for fake in fakes:
                await fake.die()
            await until(lambda: not pool.up)
            if fate == "back":
                fakes[1].infer = lambda _: answer_of(1)
                await fakes[1].start()
                assert (await call).outputs["logits"][0, 0] == 1
                fakes[1].infer = lambda _: asyncio.Event().wait()
            else:
                with pytest.raises(NaiadError) as caught:
                    await call
                assert caught.value.reason is Reason.ENGINE_UNAVAILABLE


def test_repetitions_are_a_tenth_of_the_requests_once_the_savings_are_used_up() -> None:
    budget = RetryBudget()
    saved = 0
    while budget.take():
        saved += 1
    assert saved == RetryBudget.MOST_SAVED
    repeated = 0
    for _ in range(10_000):
        budget.note_request()
        repeated += budget.take()
    assert 990 <= repeated <= 1000


async def test_names_are_looked_up_again_and_who_leaves_finishes_its_work(
    fakes: list[FakeTriton], monkeypatch: pytest.MonkeyPatch
) -> None:
    named: set[str] | None = {fakes[0].address}
    look_ups = 0

    async def look_up(_: object) -> frozenset[str] | None:
        nonlocal look_ups
        look_ups += 1
        return None if named is None else frozenset(named)

    monkeypatch.setattr(triton_pool, "look_up", look_up)
    answered = asyncio.Event()

    async def slow() -> Any:
        await answered.wait()
        return answer_of(0)

    fakes[0].infer = lambda _: slow()
    async with pool_of(address="dns:///tritons:8001", triton_resolve_interval_ms=100) as pool:
        await until(lambda: serving(pool) == [True])
        inference = PooledInference(pool, 2)
        call = asyncio.create_task(inference.infer(REQUEST))
        await until(lambda: pool.members[0].requests_in_flight == 1)
        named = {fakes[1].address}
        await until(lambda: [member.endpoint for member in pool.members] == [fakes[1].address])
        await until(lambda: serving(pool) == [True])
        assert (await inference.infer(REQUEST)).outputs["logits"][0, 0] == 1
        named, seen = None, look_ups
        await until(lambda: look_ups > seen + 1)
        assert [member.endpoint for member in pool.members] == [fakes[1].address], "not knowing is not knowing of none"
        answered.set()
        assert (await call).outputs["logits"][0, 0] == 0


async def test_a_pool_can_be_closed_while_one_that_left_is_being_closed(
    fakes: list[FakeTriton], monkeypatch: pytest.MonkeyPatch
) -> None:
    named = {fakes[0].address}
    closing = asyncio.Event()
    close = TritonMember.close

    async def look_up(_: object) -> frozenset[str]:
        return frozenset(named)

    async def close_and_tell(member: TritonMember) -> None:
        closing.set()
        await close(member)

    monkeypatch.setattr(triton_pool, "look_up", look_up)
    monkeypatch.setattr(TritonMember, "close", close_and_tell)
    async with asyncio.timeout(5):
        async with pool_of(address="dns:///tritons:8001", triton_resolve_interval_ms=10) as pool:
            await until(lambda: serving(pool) == [True])
            named = {fakes[1].address}
            await closing.wait()


async def test_metrics_say_how_each_triton_is(fakes: list[FakeTriton]) -> None:
    registry = CollectorRegistry()
    address = ",".join(fake.address for fake in fakes)
    pool = TritonPool(
        TritonSettings(triton_address=address, triton_probe_interval_ms=10), lambda: [MODEL], TritonMetrics(registry)
    )
    await pool.start()
    await until(lambda: all(serving(pool)))
    first, second = (f'{{endpoint="{fake.address}"}}' for fake in fakes)
    await fakes[1].die()
    await until(lambda: f"naiad_triton_endpoint_up{second} 0.0" in generate_latest(registry).decode())
    lease = Lease(pool.members[0], 7)
    page = generate_latest(registry).decode()
    lease.release()
    await pool.close()
    for line in (
        "naiad_triton_up 1.0",
        f"naiad_triton_endpoint_up{first} 1.0",
        f"naiad_triton_endpoint_up{second} 0.0",
        f"naiad_triton_tokens_in_flight{first} 7.0",
        f"naiad_triton_requests_in_flight{first} 1.0",
        f"naiad_triton_ejections_total{second} 1.0",
        "naiad_failovers_total 0.0",
    ):
        assert line in page


async def test_a_name_that_is_really_looked_up_gives_a_triton_that_serves(fakes: list[FakeTriton]) -> None:
    async with pool_of(address=f"dns:///localhost:{fakes[0].port}") as pool:
        await until(lambda: pool.up)
        assert (await PooledInference(pool, 2).infer(REQUEST)).outputs["logits"][0, 0] == 0


async def test_a_caller_that_leaves_has_its_request_stopped_where_it_is(fakes: list[FakeTriton]) -> None:
    stopped = asyncio.Event()

    def infer(request: Any) -> Any:
        if "stop" in parameters_of(request):
            stopped.set()
            return answer_of(0)
        return asyncio.Event().wait()

    fakes[0].infer = infer
    async with pool_of(*fakes) as pool:
        await until(lambda: all(serving(pool)))
        lease = Lease(pool.members[1], 10)
        call = asyncio.create_task(PooledInference(pool, 2).infer(REQUEST))
        await until(lambda: pool.members[0].requests_in_flight == 1)
        lease.release()
        call.cancel()
        async with asyncio.timeout(5):
            await stopped.wait()
        assert [seen.id for seen in fakes[0].requests] == [REQUEST.id] * 2
        assert pool.members[0].requests_in_flight == 0


async def test_a_call_that_is_sent_again_has_less_time(fakes: list[FakeTriton]) -> None:
    fakes[0].infer = lambda _: asyncio.Event().wait()
    request = infer_request(MODEL, "r", {"input_ids": np.array([1], np.int32)}, {"timeout_us": 60_000_000})
    async with pool_of(*fakes) as pool:
        await until(lambda: all(serving(pool)))
        lease = Lease(pool.members[1], 10)
        call = asyncio.create_task(PooledInference(pool, 2).infer(request))
        await until(lambda: bool(fakes[0].requests))
        lease.release()
        await fakes[0].die()
        await call
    (first,), (second,) = fakes[0].requests, fakes[1].requests
    assert 0 < second.parameters["timeout_us"] < first.parameters["timeout_us"] == 60_000_000
