"""The Markdown page of a run: what was measured, on what, every table, and naiad beside the best peer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.comparison import Comparison, Spread, is_ours
from benchmarks.encoders.loads import ARRIVAL, SORTED, one_text_a_call
from benchmarks.report import table
from benchmarks.results_page import cpu_flags

TOKENS, TEXTS, P50, P99 = "tokens_per_second", "texts_per_second", "latency_p50_ms", "latency_p99_ms"
SINGLE = one_text_a_call(1)


def page(figures: Mapping[str, Any], compared: Comparison) -> str:
    """All tables. `figures`: as they are written to JSON."""
    host, sizes = figures["machine"], figures["sizes"]
    rounds = {row["round"] for row in figures["rows"]}
    head = (
        f"{host['cpu']}, {host['cores']} cores ({', '.join(cpu_flags())}), Linux {host['kernel']}; "
        f"{figures['threads']} threads for every system; rounds: {len(rounds)}; {sizes['bulk']} texts in bulk, "
        f"{sizes['single']} one by one, {sizes['a_client']} a client. "
        "Cells are medians over the rounds, least and greatest in brackets; ratios are taken within a round."
    )
    sections = [
        head,
        systems_table(figures["systems"]),
        "Tokens/s, special tokens included and padding not:",
        rates_table(compared, TOKENS),
        "Texts/s:",
        rates_table(compared, TEXTS),
        "Latency of a text, p50 / p99 in ms:",
        latency_table(compared),
        "naiad over gRPC, texts in arrival order, to the best peer in process:",
        goals_table(compared),
    ]
    return "\n\n".join(sections) + "\n"


def systems_table(systems: Sequence[Mapping[str, Any]]) -> str:
    """What each system is, its settings for each order, and what its vectors have in common with transformers'."""
    lines = []
    for system in systems:
        about, sanity = system["about"], system["sanity"]
        # Of a system that failed before it was checked nothing counts.
        if about is None or not sanity:
            lines.append([system["name"], f"**not measured**: {system['problem']}", *[""] * 6])
            continue
        lines.append(
            [
                system["name"] + (f" (**failed later**: {system['problem']})" if system["problem"] else ""),
                ", ".join(f"{name} {version}" for name, version in about["versions"].items()),
                f"{about['weights']}, {about['weight_bytes'] / 1e6:,.0f} MB",
                about["settings"],
                sanity["arrival_setting"],
                sanity["sorted_setting"],
                f"{sanity['cosine_mean']:.5f}",
                f"{sanity['cosine_least']:.5f}",
            ]
        )
    heads = ("system", "versions", "weights", "how", "arrival order", "sorted", "mean cosine", "least cosine")
    return table(heads, lines)


def _systems(compared: Comparison) -> list[str]:
    return list(dict.fromkeys([*compared.names("system", "bulk"), *compared.names("system", "clients")]))


def _loads(compared: Comparison) -> list[str]:
    return [*compared.names("load", "bulk"), *compared.names("load", "clients")]


def _heads(loads: Sequence[str]) -> list[str]:
    return ["system", *(load.removeprefix("one text a call, ") for load in loads)]


def rates_table(compared: Comparison, figure: str) -> str:
    """A system a line, a load a column."""
    loads = _loads(compared)
    lines = []
    for system in _systems(compared):
        found = [compared.spread(load, system, figure) for load in loads]
        lines.append([system, *(spread.text() if spread else "" for spread in found)])
    return table(_heads(loads), lines)


def latency_table(compared: Comparison) -> str:
    """Medians over the rounds."""
    loads = compared.names("load", "clients")
    lines = []
    for system in compared.names("system", "clients"):
        cells = [system]
        for load in loads:
            p50, p99 = (compared.spread(load, system, figure) for figure in (P50, P99))
            cells.append(f"{p50.median:,.1f} / {p99.median:,.1f}" if p50 and p99 else "")
        lines.append(cells)
    return table(_heads(loads), lines)


def goals_table(compared: Comparison) -> str:
    """For every load of naiad's services: tokens/s to the best peer's in bulk, and its p50 to the best one alone."""
    peers = {order: compared.best_peer(order, TOKENS) for order in (SORTED, ARRIVAL)}
    quick = compared.best_peer(SINGLE, P50, least=True)
    heads = [
        "system",
        "load",
        f"tokens/s to {peers[SORTED]}, sorted",
        f"tokens/s to {peers[ARRIVAL]}, arrival order",
        f"p50 of one client less {quick}'s, ms",
    ]
    lines = []
    for system in filter(_is_service, _systems(compared)):
        for load in (load for load in _loads(compared) if load != SORTED):
            cells = [system, load]
            for order, peer in peers.items():
                ratio = compared.ratio(load, TOKENS, system, peer, order) if peer else None
                cells.append(ratio.text(".2f") if ratio else "")
            apart = difference(compared, SINGLE, P50, system, quick) if quick and load == SINGLE else None
            lines.append([*cells, apart.text("+.2f") if apart else ""])
    return table(heads, lines)


def _is_service(system: str) -> bool:
    return is_ours(system) and not system.endswith(" engine")


def difference(compared: Comparison, load: str, figure: str, system: str, other: str) -> Spread | None:
    """System less other, both of the same round; None without a round that both finished."""
    ours, theirs = (compared.by_round(load, name, figure) for name in (system, other))
    apart = [ours[number] - theirs[number] for number in ours if number in theirs]
    return Spread.of(apart) if apart else None
