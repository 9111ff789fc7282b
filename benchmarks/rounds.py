"""Rounds of a run side by side: every load, every system, round by round, and a report that is written after each."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, Row
from benchmarks.fleet import Fleet
from benchmarks.loads import Load
from benchmarks.report import machine, write_report


@dataclass(frozen=True)
class Earlier:
    """A report that is extended; empty if there is none."""

    figures: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> Earlier:
        """From its JSON, if there is one."""
        return cls(json.loads(file.read_text()) if file.is_file() else {})


@dataclass(frozen=True)
class Presentation:
    """How a report is shown: as a Markdown page of its JSON, and as pictures in a folder."""

    page: Callable[[Mapping[str, Any], Comparison], str]
    draw: Callable[[Comparison, Path, str], object]


class Report:
    """The figures of a run; `about` are those that no round changes."""

    def __init__(self, output: Path, about: Mapping[str, Any], earlier: Earlier, presentation: Presentation) -> None:
        self.output = output
        self.rows = [Row(**fields) for fields in earlier.figures.get("rows", [])]
        self._about = about
        self._presentation = presentation
        self._earlier_systems = {system["name"]: system for system in earlier.figures.get("systems", [])}

    @property
    def next_round(self) -> int:
        """A number that no row has."""
        return 1 + max((row.round for row in self.rows), default=0)

    def write(self, systems: Sequence[dict[str, Any]]) -> None:
        """JSON, Markdown and plots."""
        known = {
            **self._earlier_systems,
            **{system["name"]: _merged(system, self._earlier_systems) for system in systems},
        }
        figures = {**self._about, "systems": list(known.values()), "rows": [asdict(row) for row in self.rows]}
        write_report(self.output, figures)
        compared = Comparison(self.rows)
        self.page_file.write_text(self._presentation.page({"machine": machine(), **figures}, compared))
        self._presentation.draw(compared, self.output.parent, self.output.stem)

    @property
    def page_file(self) -> Path:
        """The Markdown page."""
        return self.output.with_suffix(".md")


def _merged(system: dict[str, Any], earlier: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What is known of a system; its agreement with the reference as before if the reference took no part now."""
    before = earlier.get(system["name"], {})
    problem = "; ".join(filter(None, dict.fromkeys([before.get("problem", ""), system["problem"]])))
    return {**system, "sanity": {**before.get("sanity", {}), **system["sanity"]}, "problem": problem}


def run_rounds(fleet: Fleet, report: Report, loads: Sequence[Load], repeats: int) -> str:
    """Starts the fleet, measures, writes the report after every round, ends the fleet; returns the page."""
    try:
        fleet.start()
        for _ in range(repeats):
            number, begun = report.next_round, time.monotonic()
            fleet.begin_round()
            for turn, load in enumerate(loads):
                report.rows += fleet.measure(load, number, first=number + turn)
                print(f"round {number}: {load.name} done", flush=True)
            print(f"round {number} took {time.monotonic() - begun:.0f} s", flush=True)
            report.write(fleet.report())
    except BaseException:
        # What was measured until somebody ended it is not lost.
        report.write(fleet.report())
        raise
    finally:
        fleet.stop()
    return report.page_file.read_text()
