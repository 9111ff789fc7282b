"""Supervisor over real child processes that stand for Triton and the services."""

import asyncio
import io
import os
import signal
import time
from pathlib import Path

import pytest

from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.restart import RestartPolicy
from services.supervisor.supervisor import Member, Supervisor
from tests.unit.services.supervisor import fake_children as fake

QUICK = RestartPolicy(first_delay_s=0.01, longest_delay_s=0.02, most_deaths=3, window_s=60.0)


class Run:
    """A supervisor in this process, its output, and what it waits for."""

    def __init__(self, *stages: list[Member], policy: RestartPolicy = QUICK) -> None:
        self.output = io.StringIO()
        self.ready = asyncio.Event()
        self.supervisor = Supervisor(stages, Reporter(self.output), on_ready=self.ready.set, policy=policy)
        self.task = asyncio.create_task(self.supervisor.run())

    async def until_ready(self) -> None:
        """Waits until all members are; raises what ended the supervisor before."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait({ready, self.task}, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            self.task.result()

    async def until_printed(self, text: str) -> None:
        """Waits until a line with `text` was printed."""
        while text not in self.output.getvalue():
            assert not self.task.done(), self.output.getvalue()
            await asyncio.sleep(0.005)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks this process, and so the supervisor, to stop."""
        os.kill(os.getpid(), number)
        await self.task


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_stops_all_children(tmp_path: Path, number: signal.Signals) -> None:
    run = Run([fake.member("a", fake.WELL_BEHAVED, tmp_path)], [fake.member("b", fake.WELL_BEHAVED, tmp_path)])
    await run.until_ready()
    pids = fake.process_ids(tmp_path, "a") + fake.process_ids(tmp_path, "b")
    assert all(fake.is_running(pid) for pid in pids)
    await run.stop(number)
    assert not any(fake.is_running(pid) for pid in pids)
    assert "died" not in run.output.getvalue()


async def test_a_stage_starts_after_the_one_before_and_stops_before_it(tmp_path: Path) -> None:
    order = tmp_path / "stopped"
    run = Run(
        [fake.member("engine", fake.SAYS_WHEN_STOPPED, tmp_path, str(order), "engine")],
        [fake.member("service", fake.SAYS_WHEN_STOPPED, tmp_path, str(order), "service")],
    )
    await run.until_ready()
    printed = run.output.getvalue()
    assert printed.index("engine is ready") < printed.index("service is ready")
    await run.stop()
    assert order.read_text().split() == ["service", "engine"]


async def test_a_child_that_dies_at_start_ends_everything_with_its_cause(tmp_path: Path) -> None:
    run = Run(
        [fake.member("engine", fake.WELL_BEHAVED, tmp_path)], [fake.member("service", fake.CRASHES_AT_ONCE, tmp_path)]
    )
    with pytest.raises(StartError, match=r"^service did not start: exit code 7: bye; its log is .*service\.log$"):
        await run.task
    assert "service | bye" in run.output.getvalue()
    (engine_pid,) = fake.process_ids(tmp_path, "engine")
    assert not fake.is_running(engine_pid)


async def test_a_child_that_never_gets_ready_is_given_up_and_killed(tmp_path: Path) -> None:
    run = Run([fake.member("service", fake.HANGS, tmp_path, start_timeout_s=0.2)])
    with pytest.raises(StartError, match=r"service did not start: it was not ready after 0\.2 s"):
        await run.task


async def test_an_engine_that_dies_while_services_start_ends_the_start(tmp_path: Path) -> None:
    run = Run(
        [fake.member("engine", fake.CRASHES_WHEN_READY, tmp_path)], [fake.member("service", fake.HANGS, tmp_path)]
    )
    with pytest.raises(StartError, match=r"engine d.*exit code 3: disk is full"):
        await run.task


async def test_a_dead_child_is_started_again(tmp_path: Path) -> None:
    run = Run([fake.member("service", fake.WELL_BEHAVED, tmp_path)])
    await run.until_ready()
    (first,) = fake.process_ids(tmp_path, "service")
    os.kill(first, signal.SIGKILL)
    await run.until_printed(
        "service died (signal SIGKILL: somebody killed it, or memory ran out); starting it again in 0.0 s"
    )
    await fake.until_started(tmp_path, "service", 2)
    second = fake.process_ids(tmp_path, "service")[1]
    assert fake.is_running(second)
    await run.stop()
    assert not fake.is_running(second)


async def test_a_child_that_dies_again_and_again_ends_everything(tmp_path: Path) -> None:
    run = Run(
        [fake.member("steady", fake.WELL_BEHAVED, tmp_path)],
        [fake.member("service", fake.CRASHES_WHEN_READY, tmp_path)],
    )
    with pytest.raises(
        StartError, match=r"service (died 3 times within 60 s, at last with|did not start:) exit code 3: disk is full"
    ):
        await run.task
    (steady,) = fake.process_ids(tmp_path, "steady")
    assert not fake.is_running(steady)


async def test_a_child_that_ignores_sigterm_is_killed_after_its_time(tmp_path: Path) -> None:
    run = Run([fake.member("service", fake.IGNORES_SIGTERM, tmp_path, stop_timeout_s=0.2)])
    await run.until_ready()
    (pid,) = fake.process_ids(tmp_path, "service")
    await run.stop()
    assert not fake.is_running(pid)
    assert "service killed" in run.output.getvalue()


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    run = Run([fake.member("service", fake.IGNORES_SIGTERM, tmp_path, stop_timeout_s=600)])
    await run.until_ready()
    begun_s = time.monotonic()
    os.kill(os.getpid(), signal.SIGINT)
    await run.until_printed("stopping (once more: at once)")
    await run.stop(signal.SIGINT)
    assert time.monotonic() - begun_s < 60
    assert "stopping at once" in run.output.getvalue()


async def test_a_signal_during_the_start_stops_what_has_been_started(tmp_path: Path) -> None:
    run = Run([fake.member("engine", fake.WELL_BEHAVED, tmp_path)], [fake.member("service", fake.HANGS, tmp_path)])
    await run.until_printed("engine is ready")
    await run.stop()
    (engine_pid,) = fake.process_ids(tmp_path, "engine")
    assert not fake.is_running(engine_pid)
    assert not run.ready.is_set()
