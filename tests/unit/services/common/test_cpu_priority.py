"""The wish for priority, and for one core: where they are had, where not, and what they do not reach."""

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from services.common.cpu_core import starting_anywhere
from services.common.cpu_priority import (
    ALWAYS,
    AUTO,
    NEVER,
    NORMAL,
    REALTIME,
    CpuPrioritySettings,
    PriorityError,
    grpc_runs_first,
)

Calls = list[tuple[Any, ...]]
ALL_CORES = os.sched_getaffinity(0)


def settings(priority: str, one_core: str = NEVER) -> CpuPrioritySettings:
    return CpuPrioritySettings(cpu_priority=priority, one_core=one_core)


def refuse(*_: Any) -> None:
    raise PermissionError


@pytest.fixture(autouse=True)
def all_cores_afterwards() -> Iterator[None]:
    """A bound thread would bind what other tests start."""
    yield
    os.sched_setaffinity(0, ALL_CORES)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the system is asked for; it permits all."""
    asked: Calls = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *arguments: asked.append(arguments[:2]))
    return asked


@pytest.mark.parametrize("wish", [AUTO, REALTIME])
async def test_grpc_inherits_it_and_what_comes_later_does_not(calls: Calls, wish: str) -> None:
    async with grpc_runs_first(settings(wish)) as first:
        assert first
    assert calls == [(0, os.SCHED_RR), (0, os.SCHED_RR | os.SCHED_RESET_ON_FORK)]


async def test_normal_asks_for_nothing(calls: Calls) -> None:
    async with grpc_runs_first(settings(NORMAL)) as first:
        assert not first
    assert calls == []


async def test_what_is_not_permitted_is_an_error_only_where_it_is_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    async with grpc_runs_first(settings(AUTO)) as first:
        assert not first
    with pytest.raises(PriorityError, match="CAP_SYS_NICE"):
        async with grpc_runs_first(settings(REALTIME)):
            pass


async def test_only_the_loop_is_bound_and_what_it_starts_for_other_work_is_not() -> None:
    show = [sys.executable, "-c", "import os; print(sorted(os.sched_getaffinity(0)))"]
    async with grpc_runs_first(settings(NORMAL, ALWAYS)):
        (core,) = os.sched_getaffinity(0)
        assert await asyncio.to_thread(os.sched_getaffinity, 0) == ALL_CORES
        seen: list[set[int]] = []
        with starting_anywhere():
            thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
            thread.start()
            process = await asyncio.create_subprocess_exec(*show, stdout=asyncio.subprocess.PIPE)
        shown, _ = await process.communicate()
        thread.join()
        assert seen == [ALL_CORES]
        assert shown.decode().strip() == str(sorted(ALL_CORES))
        assert os.sched_getaffinity(0) == {core}


@pytest.mark.parametrize("one_core", [AUTO, NEVER])
async def test_without_priority_others_may_keep_a_core_busy(monkeypatch: pytest.MonkeyPatch, one_core: str) -> None:
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    async with grpc_runs_first(settings(AUTO, one_core)):
        assert os.sched_getaffinity(0) == ALL_CORES


async def test_with_priority_one_core_is_enough(calls: Calls) -> None:
    async with grpc_runs_first(settings(AUTO, AUTO)):
        assert len(os.sched_getaffinity(0)) == 1
    async with grpc_runs_first(settings(AUTO, NEVER)):
        pass
    assert len(calls) == 4
