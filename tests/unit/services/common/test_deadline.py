import asyncio

import pytest

from services.common.deadline import KEPT_S, MIN_TIMES, RecentTimes, timeout_parameter
from services.common.errors import NaiadError, Reason


def too_late(match: str) -> pytest.RaisesExc[NaiadError]:
    return pytest.raises(NaiadError, match=match, check=lambda error: error.reason is Reason.DEADLINE_EXCEEDED)


async def test_the_engine_is_told_what_is_left_of_the_time() -> None:
    now_s = asyncio.get_running_loop().time()
    assert timeout_parameter(None) == {}
    assert timeout_parameter(now_s + 1e9) == {}  # more than the engine takes is no deadline
    left_us = timeout_parameter(now_s + 2.0)["timeout_us"]
    assert isinstance(left_us, int) and 1_500_000 < left_us <= 2_000_000
    with too_late("the deadline has passed"):
        timeout_parameter(now_s)


async def test_work_that_usually_takes_longer_than_there_is_time_is_refused() -> None:
    times, now_s = RecentTimes(), asyncio.get_running_loop().time()
    for duration_s in (60.0, 100.0, 1.0) * MIN_TIMES:
        times.add(1_000, duration_s)
    with too_late("left are less than the 60000 ms"):
        times.check(1_000, now_s + 50)
    with too_late("left are less than the 60000 ms"):
        times.check(600, now_s + 50)
    times.check(1_000, now_s + 70)
    times.check(1_000, None)
    times.check(100, now_s + 50)  # nothing is known of so small ones
    with too_late("the deadline has passed"):
        times.check(100, now_s - 1)


async def test_few_and_old_times_refuse_nobody() -> None:
    clock_s = 0.0
    times, soon_s = RecentTimes(lambda: clock_s), asyncio.get_running_loop().time() + 1
    for _ in range(MIN_TIMES - 1):
        times.add(10, 100.0)
    times.check(10, soon_s)
    times.add(10, 100.0)
    with too_late("it takes now"):
        times.check(10, soon_s)
    clock_s = KEPT_S + 1
    times.check(10, soon_s)
