"""A picture of an overload run: goodput, first answers and refusals against the load."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

from benchmarks.overload.load import Figures

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "naiad", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)


def draw(rows: Mapping[str, Sequence[Figures]], output: Path) -> None:
    """Writes the picture to `output`."""
    import matplotlib.pyplot as plt

    picture, (goodput, first, refusals) = plt.subplots(1, 3, figsize=(12.6, 3.6), layout="constrained")
    for kind, found in rows.items():
        peak = max(row.goodput_per_s for row in found)
        at_rate = [(float(row.load.removesuffix(" x")), row) for row in found if row.load.endswith(" x")]
        factors = [factor for factor, _ in at_rate]
        goodput.plot(factors, [100 * row.goodput_per_s / peak for _, row in at_rate], marker="o", label=kind)
        first.plot(factors, [row.first_p99_ms for _, row in at_rate], marker="o", label=kind)
        refused = [(factor, row.refusal_p99_ms) for factor, row in at_rate if row.refused_per_s]
        refusals.plot([factor for factor, _ in refused], [p99 for _, p99 in refused], marker="o", label=kind)
    goodput.set(title="goodput, % of the best", ylim=(0, 105))
    first.set(title="first answer of admitted calls, p99 ms", ylim=(0, None))
    refusals.set(title="refusals, p99 ms", ylim=(0, None))
    for axes in (goodput, first, refusals):
        axes.set(xlabel="offered load, times capacity", xscale="log", xticks=factors)
        axes.set_xticklabels([f"{factor:g}" for factor in factors])
        axes.minorticks_off()
    goodput.legend()
    output.parent.mkdir(parents=True, exist_ok=True)
    picture.savefig(output, metadata={"Date": None})
    plt.close(picture)
