"""The Markdown page of a run: what was measured, on what, and every table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.comparison import (
    Comparison,
    figure_table,
    latency_table,
    open_loop_table,
    prefix_table,
    systems_table,
)
from benchmarks.report import table
from benchmarks.workloads import DECODE_TOKENS, NEW_TOKENS, PROMPT_TOKENS

# What a reader wants to know of the CPU, of the many flags that it has.
TELLING_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx_vnni", "amx_tile", "amx_int8")
_LIMIT_TEXTS = {
    "memory_read_gb_per_s": "memory reads, GB/s",
    "float32_gflops": "float32 products (numpy), GFLOP/s",
    "bfloat16_gflops": "bfloat16 products (torch), GFLOP/s",
    "int8_gops": "8-bit products (ONNX Runtime), GOP/s",
}


def cpu_flags() -> list[str]:
    """Those of TELLING_FLAGS that this CPU has."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return [flag for flag in TELLING_FLAGS if flag in flags]


def page(figures: Mapping[str, Any], compared: Comparison) -> str:
    """All sections that have rows. `figures`: as they are written to JSON."""
    host = figures["machine"]
    rounds = {row["round"] for row in figures["rows"]}
    head = (
        f"{host['cpu']}, {host['cores']} cores ({', '.join(cpu_flags())}), Linux {host['kernel']}; "
        f"{figures['threads']} threads for every system; rounds: {len(rounds)}. "
        "Cells are medians over the rounds, least and greatest in brackets; ratios are taken within a round."
    )
    sections = [head, systems_table(figures["systems"]), _limits(figures, compared)]
    for kind, build in _SECTIONS.items():
        if compared.names("load", kind):
            sections += build(compared)
    return "\n\n".join(sections) + "\n"


def _limits(figures: Mapping[str, Any], compared: Comparison) -> str:
    limits = figures["limits"]
    lines = [
        [text, f"{limits[name]:,.1f}" if isinstance(limits[name], float) else str(limits[name])]
        for name, text in _LIMIT_TEXTS.items()
    ]
    measured = table(("limit of this machine, all threads", "measured"), lines)
    bandwidth = limits["memory_read_gb_per_s"]
    load = "decode, 1 stream"
    shares = []
    for system in figures["systems"]:
        found = compared.spread(load, system["name"], "decode_tokens_per_second")
        if found is None or system["about"] is None or not isinstance(bandwidth, float):
            continue
        size = system["about"]["weight_bytes"]
        most = bandwidth * 1e9 / size
        shares.append([system["name"], f"{size / 1e6:,.0f}", f"{most:,.0f}", f"{found.median / most:.0%}"])
    heads = ("system", "weights, MB", "most tokens/s of one stream that memory allows", "reached")
    return "\n\n".join([measured, *([table(heads, shares)] if shares else [])])


def _decode(compared: Comparison) -> list[str]:
    return [
        f"## Decode: {PROMPT_TOKENS}-token prompts, {DECODE_TOKENS} new tokens",
        "Tokens/s while all streams decode.",
        figure_table(compared, "decode", "decode_tokens_per_second"),
        "New tokens/s over the whole run, prompts included.",
        figure_table(compared, "decode", "tokens_per_second"),
        "Time to first token p50; between tokens p50 / p99; all in ms.",
        latency_table(compared, "decode"),
    ]


def _prefill(compared: Comparison) -> list[str]:
    return [
        "## Prefill: one prompt",
        "Prompt tokens/s.",
        figure_table(compared, "prefill", "prefill_tokens_per_second"),
        "Time to first token, ms.",
        figure_table(compared, "prefill", "time_to_first_token_ms", least=True),
    ]


def _prefix(compared: Comparison) -> list[str]:
    (load,) = compared.names("load", "prefix")
    return [f"## {load.capitalize()}: time to first token", prefix_table(compared)]


def _open_loop(compared: Comparison) -> list[str]:
    return [
        f"## Open loop: Poisson arrivals, {PROMPT_TOKENS}-token prompts, {NEW_TOKENS} new tokens",
        "Time to first token p50 / p99, counted from the scheduled arrival; p99 between tokens; all in ms.",
        open_loop_table(compared),
    ]


_SECTIONS: dict[str, Callable[[Comparison], list[str]]] = {
    "decode": _decode,
    "prefill": _prefill,
    "prefix": _prefix,
    "open": _open_loop,
}
