"""The wish for priority: where it is permitted, where not, and what it does not reach."""

import os
from typing import Any

import pytest

from services.common.cpu_priority import AUTO, NORMAL, REALTIME, PriorityError, grpc_runs_first

Calls = list[tuple[Any, ...]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What the system is asked for; it permits all."""
    asked: Calls = []
    monkeypatch.setattr(os, "sched_setscheduler", lambda *arguments: asked.append(arguments[:2]))
    return asked


@pytest.mark.parametrize("wish", [AUTO, REALTIME])
async def test_grpc_inherits_it_and_what_comes_later_does_not(calls: Calls, wish: str) -> None:
    async with grpc_runs_first(wish) as first:
        assert first
    assert calls == [(0, os.SCHED_RR), (0, os.SCHED_RR | os.SCHED_RESET_ON_FORK)]


async def test_normal_asks_for_nothing(calls: Calls) -> None:
    async with grpc_runs_first(NORMAL) as first:
        assert not first
    assert calls == []


async def test_what_is_not_permitted_is_an_error_only_where_it_is_wished_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    async with grpc_runs_first(AUTO) as first:
        assert not first
    with pytest.raises(PriorityError, match="CAP_SYS_NICE"):
        async with grpc_runs_first(REALTIME):
            pass
