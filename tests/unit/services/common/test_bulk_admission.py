"""Room for bulk streams beside calls that do not wait."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
from prometheus_client import CollectorRegistry

from services.common.admission import Admission, AdmissionOptions, set_current_ticket
from services.common.errors import NaiadError
from services.common.retry_time import RetryTime
from services.common.tenant_file import Tenant, TenantLimits
from services.common.tenants import TenantMetrics, TenantShares, TenantUse


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


def tenants(*configured: Tenant) -> list[TenantUse]:
    """Of one process, on a real clock."""
    shares = TenantShares(TenantMetrics(CollectorRegistry()), lambda: RetryTime(10, 10))
    shares.configure({tenant.name: tenant for tenant in configured})
    return [shares.use_of(tenant) for tenant in configured]


@dataclass
class Stream:
    """Parts of one bulk stream, of which all wait at once; `entered` has the tenants whose parts were let in."""

    admission: Admission
    tenant: TenantUse
    entered: list[str]

    async def run(self, parts: int, tokens: int) -> None:
        set_current_ticket(self.admission.enter("/ClassifyStream", None, 0, self.tenant))
        await asyncio.gather(*(self._part(tokens) for _ in range(parts)))

    async def _part(self, tokens: int) -> None:
        async with self.admission.bulk_cost(tokens):
            self.entered.append(self.tenant.tenant.name)
            await settle()


async def test_streams_of_tenants_take_turns_by_weight(admission: Admission) -> None:
    many, few, heavy = tenants(Tenant("many"), Tenant("few"), Tenant("heavy", weight=2))
    entered: list[str] = []
    streams = [
        Stream(admission, many, entered).run(40, 10),
        Stream(admission, few, entered).run(4, 10),
        Stream(admission, heavy, entered).run(8, 10),
    ]
    await asyncio.gather(*streams)
    # Of five parts at a time, one is of `few` and two are of `heavy` as long as they have any.
    assert Counter(entered[5:20]) == {"many": 6, "few": 3, "heavy": 6}
    assert Counter(entered) == {"many": 40, "few": 4, "heavy": 8}
    assert (admission.tokens, admission.bulk_tokens) == (0, 0)


async def test_a_tenant_with_all_the_tokens_that_it_may_have_keeps_nobody_waiting(admission: Admission) -> None:
    limited, other = tenants(Tenant("limited", limits=TenantLimits(max_inflight_tokens=10)), Tenant("other"))
    entered: list[str] = []
    first = asyncio.create_task(Stream(admission, limited, entered).run(3, 10))
    await asyncio.sleep(0)
    await asyncio.gather(first, Stream(admission, other, entered).run(3, 10))
    assert entered[:4] == ["limited", "other", "other", "other"]


async def test_a_stream_keeps_to_the_rate_of_its_tenant(admission: Admission, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    slept: list[float] = []

    async def sleep(duration_s: float) -> None:
        nonlocal now_s
        slept.append(duration_s)
        now_s += duration_s

    shares = TenantShares(TenantMetrics(CollectorRegistry()), lambda: RetryTime(10, 10), clock=lambda: now_s)
    tenant = Tenant("slow", limits=TenantLimits(tokens_per_second=20))
    shares.configure({"slow": tenant})
    use = shares.use_of(tenant)
    set_current_ticket(admission.enter("/ClassifyStream", None, 0, use))
    monkeypatch.setattr("services.common.tenants.asyncio.sleep", sleep)
    for _ in range(5):
        async with admission.bulk_cost(30):
            pass
    # 20 tokens are there at once; after each part the debt is paid off before the next one.
    assert now_s == pytest.approx((4 * 30 - 20) / 20)
    assert max(slept) <= 1.0
    with pytest.raises(NaiadError, match="too many tokens of this tenant"):
        use.enter()
