"""Starts children in stages, keeps them alive, stops them in the reverse order."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from services.supervisor.child import ChildProcess, ChildSpec
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.restart import RestartHistory, RestartPolicy

LOG_TAIL_LINES = 12
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Member:
    """A child and how to tell that it works: `wait_ready` returns then, and is given up after `start_timeout_s`."""

    spec: ChildSpec
    wait_ready: Callable[[], Awaitable[None]]
    start_timeout_s: float = 60.0


class Replacement:
    """A member that is to be stopped and started anew. `result` is None, or why the first start failed."""

    def __init__(self, before_start: Callable[[], None], undo: Callable[[], None]) -> None:
        self._undo: Callable[[], None] | None = undo
        self._problem: str | None = None
        self.before_start: Callable[[], None] | None = before_start
        self.result: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def begin(self) -> None:
        """The old process has ended, and the new one is about to be started."""
        if self.before_start is not None:
            self.before_start()
            self.before_start = None

    def started(self, problem: str | None) -> None:
        """Notes how a start went. After a failure the change is undone, and the next start counts."""
        if problem and self._undo is not None:
            self._problem = problem
            self._undo()
            self._undo = None
        if problem is None and not self.result.done():
            self.result.set_result(self._problem)


@dataclass
class Supervisor:
    """Runs stages of members: each starts when the one before is ready, and stops when the one behind has stopped.

    `run` may be called once.
    """

    stages: Sequence[Sequence[Member]]
    reporter: Reporter
    on_ready: Callable[[], None] = lambda: None
    policy: RestartPolicy = field(default_factory=RestartPolicy)

    def __post_init__(self) -> None:
        self._children: dict[str, ChildProcess] = {}
        self._replacements: dict[str, Replacement] = {}
        self._all_ready = False
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> None:
        """Runs until a signal asks it to stop. StartError when a child dies at start, or again and again.

        All children have ended when it returns or raises.
        """
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._on_signal, number)
        work = asyncio.create_task(self._start_and_watch())
        stop = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
        finally:
            # Nothing is restarted from here on: who ends now was asked to.
            await _cancel(work, stop)
            for replacement in self._replacements.values():
                replacement.result.cancel()
            await self._stop_all()
            for number in STOP_SIGNALS:
                loop.remove_signal_handler(number)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            self.reporter.progress("stopping at once")
            self._hurry.set()
            return
        self.reporter.progress(f"{number.name}: stopping (once more: at once)")
        self._stop.set()

    async def _start_and_watch(self) -> None:
        started: list[Member] = []
        for stage in self.stages:
            await self._start_stage(stage, started)
            started.extend(stage)
        self._all_ready = True
        self.on_ready()
        await _run_all(self._keep_alive(member) for member in started)

    async def replace(self, name: str, before_start: Callable[[], None], undo: Callable[[], None]) -> str | None:
        """Stops a member and starts it anew: what it finds then is put in place by `before_start`.

        None when it works; else why it did not, after `undo` was called and the member works as before. Raises
        StartError when the member is not running, or already being replaced.
        """
        child = self._children.get(name)
        if not self._all_ready or name in self._replacements or child is None or not child.is_running:
            raise StartError(f"{name} is being started already")
        replacement = self._replacements[name] = Replacement(before_start, undo)
        try:
            await self._stop_child(child)
            return await replacement.result
        finally:
            self._replacements.pop(name, None)

    async def _start_stage(self, stage: Sequence[Member], started: Sequence[Member]) -> None:
        """Starts a stage; StartError when one of it does not start, or one of an earlier stage dies meanwhile."""
        starting = asyncio.create_task(_run_all(self._start_first_time(member) for member in stage))
        watching = [asyncio.create_task(self._fail_when_dead(member)) for member in started]
        try:
            done, _ = await asyncio.wait({starting, *watching}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await _cancel(starting, *watching)

    async def _fail_when_dead(self, member: Member) -> None:
        problem = await self._wait_for_death(member)
        self._show_log(member)
        raise StartError(f"{member.spec.name} died during the start: {problem}; its log is {member.spec.log_path}")

    async def _start_first_time(self, member: Member) -> None:
        problem = await self._start_and_wait_ready(member)
        if problem:
            self._show_log(member)
            raise StartError(f"{member.spec.name} did not start: {problem}; its log is {member.spec.log_path}")

    async def _keep_alive(self, member: Member) -> None:
        name = member.spec.name
        history = RestartHistory(self.policy)
        problem = await self._wait_for_death(member)
        while True:
            replacement = self._replacements.get(name)
            if replacement is not None and replacement.before_start is not None:
                replacement.begin()
            else:
                await self._wait_after_death(member, problem, history.record_death())
            start_problem = await self._start_and_wait_ready(member)
            if replacement is not None:
                replacement.started(start_problem)
            problem = start_problem or await self._wait_for_death(member)

    async def _wait_after_death(self, member: Member, problem: str, delay_s: float | None) -> None:
        name = member.spec.name
        self._show_log(member)
        if delay_s is None:
            often = f"{self.policy.most_deaths} times within {self.policy.window_s:g} s"
            raise StartError(f"{name} died {often}, at last with {problem}; its log is {member.spec.log_path}")
        self.reporter.progress(f"{name} died ({problem}); starting it again in {delay_s:.1f} s")
        await asyncio.sleep(delay_s)

    async def _start_and_wait_ready(self, member: Member) -> str | None:
        """Starts the child; None once it is ready, else what went wrong (it has ended then)."""
        start_s = time.monotonic()
        child = await ChildProcess.start(member.spec)
        self._children[member.spec.name] = child
        ready = asyncio.ensure_future(member.wait_ready())
        death = asyncio.create_task(child.wait())
        try:
            await asyncio.wait({ready, death}, timeout=member.start_timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if death.done():
                return child.describe_end()
            if not ready.done():
                child.kill()
                await death
                return f"it was not ready after {member.start_timeout_s:g} s"
            await ready
        finally:
            ready.cancel()
            death.cancel()
        self.reporter.progress(f"{member.spec.name} is ready ({time.monotonic() - start_s:.1f} s, process {child.pid})")
        return None

    async def _wait_for_death(self, member: Member) -> str:
        child = self._children[member.spec.name]
        await child.wait()
        return child.describe_end()

    def _show_log(self, member: Member) -> None:
        lines = self._children[member.spec.name].important_log_lines()
        self.reporter.log_tail(member.spec.name, lines[-LOG_TAIL_LINES:])

    async def _stop_all(self) -> None:
        for stage in reversed(self.stages):
            running = [
                child for member in stage if (child := self._children.get(member.spec.name)) and child.is_running
            ]
            await asyncio.gather(*(self._stop_child(child) for child in running))

    async def _stop_child(self, child: ChildProcess) -> None:
        start_s = time.monotonic()
        ended_by_itself = await child.stop(self._hurry)
        how = "stopped" if ended_by_itself else "killed"
        self.reporter.progress(f"{child.spec.name} {how} ({time.monotonic() - start_s:.1f} s)")


async def _run_all(tasks: Iterable[Coroutine[None, None, None]]) -> None:
    """Runs all at once. The first exception cancels the others and is raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            for task in tasks:
                group.create_task(task)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


async def _cancel(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
