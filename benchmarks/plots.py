"""Three pictures of a run: throughput against streams, latency against load, prefill against length."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.comparison import Comparison, is_ours

mpl.use("svg")
mpl.rcParams.update(
    {"svg.hashsalt": "naiad", "svg.fonttype": "none", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3}
)

Axes = Any


def draw(compared: Comparison, folder: Path, stem: str) -> list[Path]:
    """Writes FOLDER/STEM-*.svg for the kinds of load that have rows; returns the files."""
    import matplotlib.pyplot as plt

    written = []
    for kind, (name, paint, panels) in _PICTURES.items():
        if not compared.names("load", kind):
            continue
        picture, axes = plt.subplots(
            1, panels, figsize=(max(6.4, 4.2 * panels), 3.8), squeeze=False, layout="constrained"
        )
        paint(compared, list(axes[0]))
        picture.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        written.append(folder / f"{stem}-{name}.svg")
        picture.savefig(written[-1], metadata={"Date": None})
        plt.close(picture)
    return written


def _number(load: str) -> float:
    """What a load's name counts: streams, tokens or requests a second."""
    found = re.search(r", ([\d.]+)", load)
    assert found is not None
    return float(found[1])


def _lines(compared: Comparison, axes: Axes, kind: str, figure: str, scale: float = 1.0) -> None:
    # A system has one colour in all pictures.
    colours = list(dict.fromkeys(name for known in _PICTURES for name in compared.names("system", known)))
    for system in compared.names("system", kind):
        found = [(_number(load), compared.spread(load, system, figure)) for load in compared.names("load", kind)]
        points = [(number, spread) for number, spread in found if spread is not None]
        middle = [scale * spread.median for _, spread in points]
        below = [scale * (spread.median - spread.least) for _, spread in points]
        above = [scale * (spread.greatest - spread.median) for _, spread in points]
        ours = is_ours(system)
        axes.errorbar(
            [number for number, _ in points],
            middle,
            [below, above],
            label=system,
            color=f"C{colours.index(system)}",
            marker="o" if ours else ".",
            linewidth=2.2 if ours else 1.1,
            capsize=2,
        )


def _throughput(compared: Comparison, panels: list[Axes]) -> None:
    titles = {
        "decode_tokens_per_second": "while all streams decode",
        "tokens_per_second": "whole run, prompts included",
    }
    for axes, (figure, title) in zip(panels, titles.items(), strict=True):
        _lines(compared, axes, "decode", figure)
        axes.set(xscale="log", xlabel="streams", ylabel="new tokens/s", ylim=(0, None), title=title)
        _ticks_where_measured(compared, axes, "decode")


def _ticks_where_measured(compared: Comparison, axes: Axes, kind: str) -> None:
    numbers = [_number(load) for load in compared.names("load", kind)]
    axes.set_xticks(numbers, [f"{number:g}" for number in numbers], minor=False)
    axes.minorticks_off()


def _latency(compared: Comparison, panels: list[Axes]) -> None:
    figures = {
        "time_to_first_token_p50_ms": "time to first token, p50",
        "time_to_first_token_p99_ms": "time to first token, p99",
        "inter_token_p99_ms": "between tokens, p99",
    }
    for axes, (figure, title) in zip(panels, figures.items(), strict=True):
        _lines(compared, axes, "open", figure)
        axes.set(yscale="log", xlabel="requests/s", ylabel="ms", title=title)


def _prefill(compared: Comparison, panels: list[Axes]) -> None:
    _lines(compared, panels[0], "prefill", "prefill_tokens_per_second")
    panels[0].set(xscale="log", xlabel="prompt tokens", ylabel="prompt tokens/s", ylim=(0, None), title="prefill")
    _ticks_where_measured(compared, panels[0], "prefill")


_PICTURES: dict[str, tuple[str, Callable[[Comparison, list[Axes]], None], int]] = {
    "decode": ("throughput", _throughput, 2),
    "open": ("latency", _latency, 3),
    "prefill": ("prefill", _prefill, 1),
}
