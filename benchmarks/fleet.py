"""The processes of all systems of a run: at most one of them is awake at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.comparison import Row
from benchmarks.loads import Ask, Load
from benchmarks.systems.catalogue import System
from benchmarks.systems.process import NotSupported, SystemFailed, SystemProcess
from benchmarks.systems.protocol import About

LOAD_TIMEOUT_S = 180.0
ANSWER_TIMEOUT_S = 300.0
REFERENCE = "transformers"
# A system that needs longer than this, and half the time of the arrivals, after the last arrival of an open loop is
# over its capacity: at higher rates, every latency would only say how long the run was.
DRAIN_S = 3.0


class Check(Protocol):
    """Whether what a system says makes sense."""

    def answers(self, ask: Ask) -> Any:
        """What the system says. Raises ValueError if it makes no sense to measure it."""

    def verdict(self, answers: Any, reference: Any | None) -> dict[str, Any]:
        """For tables and JSON; `reference`: what REFERENCE said, if it took part."""


@dataclass
class Member:
    """One system of the run and what is known of it."""

    system: System
    process: SystemProcess | None = None
    about: About | None = None
    answers: Any = None  # To the check.
    problem: str = ""
    over_capacity: set[str] = field(default_factory=set)  # Kinds of load of which a greater one makes no sense.

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        """One message to its process. Raises SystemFailed."""
        assert self.process is not None
        return self.process.ask(message, ANSWER_TIMEOUT_S)


class Fleet:
    """All systems; one that fails is left out from then on, with its reason."""

    def __init__(
        self, systems: Sequence[System], check: Check, warm_up: Sequence[Load], threads: int, logs: Path
    ) -> None:
        """`warm_up` is run once by each before anything counts: pages, caches and lazy initialisation."""
        self.members = [Member(system) for system in systems]
        self._check = check
        self._warm_up = warm_up
        self._threads = threads
        self._logs = logs

    def start(self) -> None:
        """Loads, checks, warms and pauses one system after the other."""
        for member in self.members:
            member.problem = member.system.missing()
            if not member.problem:
                with self._failures_of(member):
                    self._start(member)
            print(f"{member.system.name}: {member.problem or 'ready'}", flush=True)

    def _start(self, member: Member) -> None:
        system = member.system
        log = self._logs / f"{system.name.replace(' ', '-')}.log"
        member.process = SystemProcess(system.command(), system.environment(self._threads), log)
        options = {**system.options, "threads": self._threads}
        loaded = member.process.ask({"op": "load", "options": options}, LOAD_TIMEOUT_S)
        member.about = About.parse(loaded["about"])
        member.answers = self._check.answers(member.ask)
        for load in self._warm_up:
            with contextlib.suppress(NotSupported):
                load.measure(member.ask, "warm-up")
        member.process.pause()

    @contextlib.contextmanager
    def _failures_of(self, member: Member) -> Iterator[None]:
        try:
            yield
        except (SystemFailed, ValueError) as error:
            member.problem = str(error)
            if member.process is not None:
                member.process.quit()
                member.process = None

    def measure(self, load: Load, round_number: int, first: int) -> list[Row]:
        """Every system that can, once, beginning with number `first` of them."""
        rows = []
        for number in range(len(self.members)):
            member = self.members[(first + number) % len(self.members)]
            if member.process is None or load.kind in member.over_capacity:
                continue
            with self._failures_of(member):
                rows += self._measure(member, member.process, load, round_number)
        return rows

    @staticmethod
    def _measure(member: Member, process: SystemProcess, load: Load, round_number: int) -> list[Row]:
        process.resume()
        try:
            figures = load.measure(member.ask, f"round {round_number}")
        except NotSupported:
            return []
        except ValueError as error:  # A request failed; the system is still there.
            member.problem = f"{load.name}, round {round_number}: {error}"
            return []
        finally:
            process.pause()
        if figures.get("drain_s", 0.0) > DRAIN_S + figures.get("last_arrival_s", 0.0) / 2:
            member.over_capacity.add(load.kind)
        return [Row(round_number, load.kind, load.name, member.system.name, figures)]

    def begin_round(self) -> None:
        """Lets every system try every load again."""
        for member in self.members:
            member.over_capacity.clear()

    def stop(self) -> None:
        """Ends all processes."""
        for member in self.members:
            if member.process is not None:
                member.process.quit()
                member.process = None

    def report(self) -> list[dict[str, Any]]:
        """What is known of every system, for the tables and the JSON."""
        reference = next((one.answers for one in self.members if one.system.name == REFERENCE), None)
        systems = []
        for member in self.members:
            sanity = {} if member.answers is None else self._check.verdict(member.answers, reference)
            about = asdict(member.about) if member.about else None
            systems.append(
                {"name": member.system.name, "about": about, "sanity": sanity, "problem": member.problem}
            )  # fmt: skip
        return systems
