"""Two pictures of a run: tokens/s of every system, and naiad's against the number of clients."""

from __future__ import annotations

from pathlib import Path

from benchmarks.comparison import Comparison, Spread, is_ours
from benchmarks.encoders.loads import ARRIVAL, SORTED, one_text_a_call
from benchmarks.encoders.page import P50, P99, TOKENS
from benchmarks.plots import Axes

_ORDERS = {ARRIVAL: "bulk, arrival order", SORTED: "bulk, sorted", one_text_a_call(1): "one text at a time"}


def draw(compared: Comparison, folder: Path, stem: str) -> list[Path]:
    """Writes FOLDER/STEM-throughput.svg and FOLDER/STEM-clients.svg; returns the files."""
    import matplotlib.pyplot as plt

    written = []
    for name, paint, panels in (("throughput", _throughput, 1), ("clients", _clients, 3)):
        picture, axes = plt.subplots(1, panels, figsize=(9.6, 3.8), squeeze=False, layout="constrained")
        paint(compared, list(axes[0]))
        picture.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
        written.append(folder / f"{stem}-{name}.svg")
        picture.savefig(written[-1], metadata={"Date": None})
        plt.close(picture)
    return written


def _throughput(compared: Comparison, panels: list[Axes]) -> None:
    (axes,) = panels
    systems = compared.names("system", "bulk")
    width = 0.8 / len(_ORDERS)
    for place, (load, label) in enumerate(_ORDERS.items()):
        found = [compared.spread(load, system, TOKENS) for system in systems]
        known = [(x + (place - 1) * width, spread) for x, spread in enumerate(found) if spread is not None]
        axes.bar(
            [x for x, _ in known],
            [spread.median for _, spread in known],
            width,
            yerr=_errors([spread for _, spread in known]),
            capsize=2,
            label=label,
        )
    axes.set_xticks(range(len(systems)), [system.replace(" ", "\n") for system in systems], fontsize=7)
    axes.set(ylabel="tokens/s", title="tokens/s, padding not counted")


def _clients(compared: Comparison, panels: list[Axes]) -> None:
    titles = {TOKENS: "tokens/s", P50: "latency p50, ms", P99: "latency p99, ms"}
    loads = {int(load.split()[-2]): load for load in compared.names("load", "clients")}
    for axes, (figure, title) in zip(panels, titles.items(), strict=True):
        for system in filter(is_ours, compared.names("system", "clients")):
            found = [(clients, compared.spread(load, system, figure)) for clients, load in loads.items()]
            known = [(clients, spread) for clients, spread in found if spread is not None]
            axes.errorbar(
                [clients for clients, _ in known],
                [spread.median for _, spread in known],
                _errors([spread for _, spread in known]),
                label=system,
                marker="o",
                capsize=2,
            )
        axes.set(xscale="log", xlabel="clients", title=title, ylim=(0, None))
        axes.set_xticks(list(loads), [str(clients) for clients in loads], minor=False)
        axes.minorticks_off()


def _errors(spreads: list[Spread]) -> list[list[float]]:
    return [[one.median - one.least for one in spreads], [one.greatest - one.median for one in spreads]]
