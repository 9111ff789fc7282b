"""Medians over rounds, ratios within a round, and the tables that show them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.report import table


def is_ours(system: str) -> bool:
    """Whether a system is naiad, in any form."""
    return system.split(maxsplit=1)[0] == "naiad"


@dataclass(frozen=True)
class Row:
    """What one system did under one load in one round."""

    round: int
    kind: str
    load: str
    system: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, the least and the greatest."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values))

    def text(self, pattern: str = ",.0f") -> str:
        """The median, and the range where there is one."""
        if self.least == self.greatest:
            return f"{self.median:{pattern}}"
        return f"{self.median:{pattern}} ({self.least:{pattern}} - {self.greatest:{pattern}})"


class Comparison:
    """All rows of a run."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def names(self, attribute: str, kind: str) -> list[str]:
        """The systems or loads ("system", "load") of a kind, in the order in which they first came."""
        found = dict.fromkeys(getattr(row, attribute) for row in self._rows if row.kind == kind)
        if attribute == "load":
            return list(found)
        # The order of the systems rotates from load to load; tables keep ours first.
        return sorted(found, key=lambda name: (not is_ours(name), name.lower()))

    def by_round(self, load: str, system: str, figure: str) -> dict[int, float]:
        """One figure of a system in every round that it finished."""
        same = (row for row in self._rows if (row.load, row.system) == (load, system))
        return {row.round: row.figures[figure] for row in same if figure in row.figures}

    def spread(self, load: str, system: str, figure: str) -> Spread | None:
        """Over all rounds; None if the system finished none."""
        values = list(self.by_round(load, system, figure).values())
        return Spread.of(values) if values else None

    def best_peer(self, load: str, figure: str, *, least: bool = False) -> str | None:
        """The peer with the greatest (or least) median; None without a peer."""
        medians = {
            system: found.median
            for system in dict.fromkeys(row.system for row in self._rows)
            if not is_ours(system) and (found := self.spread(load, system, figure)) is not None
        }
        if not medians:
            return None
        return min(medians, key=medians.__getitem__) if least else max(medians, key=medians.__getitem__)

    def ratio(self, load: str, figure: str, system: str, other: str, other_load: str | None = None) -> Spread | None:
        """System to other (under `other_load`), both of the same round; None without a round that both finished."""
        above, below = self.by_round(load, system, figure), self.by_round(other_load or load, other, figure)
        ratios = [above[number] / below[number] for number in above if number in below]
        return Spread.of(ratios) if ratios else None


def figure_table(compared: Comparison, kind: str, figure: str, *, pattern: str = ",.0f", least: bool = False) -> str:
    """A system a line, a load a column, medians with range; the last line compares naiad with the best peer.

    `least`: the least figure is the best one.
    """
    loads = compared.names("load", kind)
    lines = [[system, *(_cell(compared, load, system, figure, pattern) for load in loads)]
             for system in compared.names("system", kind)]  # fmt: skip
    ratios = ["**naiad to the best peer**"]
    for load in loads:
        best = compared.best_peer(load, figure, least=least)
        ratio = compared.ratio(load, figure, "naiad", best) if best else None
        ratios.append(f"**{ratio.text('.2f')}** ({best})" if ratio else "")
    heads = ["system", *(load.partition(", ")[2] for load in loads)]
    return table(heads, [*lines, ratios])


def _cell(compared: Comparison, load: str, system: str, figure: str, pattern: str) -> str:
    found = compared.spread(load, system, figure)
    return found.text(pattern) if found else ""


def latency_table(compared: Comparison, kind: str) -> str:
    """Medians: time to first token, and p50 / p99 between tokens, a system a line."""
    loads = compared.names("load", kind)
    lines = []
    for system in compared.names("system", kind):
        cells = [system]
        for load in loads:
            first, p50, p99 = (
                compared.spread(load, system, name)
                for name in ("time_to_first_token_p50_ms", "inter_token_p50_ms", "inter_token_p99_ms")
            )
            known = first is not None and p50 is not None and p99 is not None
            cells.append(f"{first.median:,.0f}; {p50.median:.1f} / {p99.median:.1f}" if known else "")  # type: ignore[union-attr]
        lines.append(cells)
    return table(["system", *(load.partition(", ")[2] for load in loads)], lines)


def prefix_table(compared: Comparison) -> str:
    """First and second request of a shared prefix."""
    lines = [
        [system, *(_cell(compared, load, system, figure, pattern) for figure, pattern in _PREFIX_FIGURES)]
        for load in compared.names("load", "prefix")
        for system in compared.names("system", "prefix")
    ]
    return table(("system", "first, ms", "second, ms", "second to first"), lines)


_PREFIX_FIGURES = (
    ("first_time_to_first_token_ms", ",.0f"),
    ("second_time_to_first_token_ms", ",.0f"),
    ("second_to_first", ".3f"),
)


def open_loop_table(compared: Comparison) -> str:
    """A rate a column: p50 / p99 of the time to first token from the scheduled arrival, p99 between tokens."""
    loads = compared.names("load", "open")
    lines = []
    for system in compared.names("system", "open"):
        cells = [system]
        for load in loads:
            names = ("time_to_first_token_p50_ms", "time_to_first_token_p99_ms", "inter_token_p99_ms", "failed")
            found = [compared.spread(load, system, name) for name in names]
            medians = [one.median for one in found if one is not None]
            if len(medians) < len(names):
                cells.append("not tried: over its capacity")
                continue
            lost = f", {medians[3]:.0f} failed" if medians[3] else ""
            cells.append(f"{medians[0]:,.0f} / {medians[1]:,.0f}; {medians[2]:,.0f}{lost}")
        lines.append(cells)
    return table(["system", *(load.partition(", ")[2] for load in loads)], lines)


def systems_table(systems: Sequence[Mapping[str, Any]]) -> str:
    """What each system is, and whether its output makes sense."""
    lines = []
    for system in systems:
        about, sanity = system["about"], system["sanity"]
        if about is None:
            lines.append([system["name"], f"**not measured**: {system['problem']}", "", "", "", ""])
            continue
        same = sanity.get("same_tokens")
        lines.append(
            [
                system["name"] + (f" (**failed later**: {system['problem']})" if system["problem"] else ""),
                ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
                f"{about['weights']}, {about['weight_bytes'] / 1e6:,.0f} MB; KV {about['kv_cache']}",
                about["settings"],
                "yes" if sanity.get("says_paris") else "**no**",
                "" if same is None else f"{same:.0%}",
            ]
        )
    return table(("system", "versions", "weights", "settings", "says Paris", "tokens as transformers fp32"), lines)
