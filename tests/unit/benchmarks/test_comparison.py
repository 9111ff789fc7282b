"""Medians, ratios and tables of rounds that are made up here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.comparison import (
    Comparison,
    Row,
    Spread,
    figure_table,
    latency_table,
    open_loop_table,
    prefix_table,
    systems_table,
)
from benchmarks.plots import draw
from benchmarks.results_page import page

LOAD = "decode, 8 streams"


def _decode(number: int, system: str, rate: float, load: str = LOAD) -> Row:
    latency = {"time_to_first_token_p50_ms": 100.0, "inter_token_p50_ms": 10.0, "inter_token_p99_ms": 20.0}
    rates = {"tokens_per_second": rate / 2, "decode_tokens_per_second": rate}
    return Row(number, "decode", load, system, {**rates, **latency})


# The machine is half as fast in round 2; the peer "slow" did not finish it.
ROWS = [
    _decode(1, "slow", 10),
    _decode(1, "naiad", 200),
    _decode(1, "fast", 100),
    _decode(2, "naiad", 90),
    _decode(2, "fast", 50),
]


def test_ratios_are_taken_within_a_round() -> None:
    compared = Comparison(ROWS)
    ratio = compared.ratio(LOAD, "decode_tokens_per_second", "naiad", "fast")
    assert ratio == Spread(pytest.approx(1.9), pytest.approx(1.8), pytest.approx(2.0))
    assert compared.ratio(LOAD, "decode_tokens_per_second", "naiad", "slow") == Spread(20, 20, 20)
    assert compared.ratio(LOAD, "decode_tokens_per_second", "naiad", "absent") is None


def test_the_best_peer_is_never_one_of_ours() -> None:
    compared = Comparison([*ROWS, _decode(1, "naiad engine", 500)])
    assert compared.best_peer(LOAD, "decode_tokens_per_second") == "fast"
    assert compared.best_peer(LOAD, "decode_tokens_per_second", least=True) == "slow"
    assert Comparison(ROWS[1:2]).best_peer(LOAD, "decode_tokens_per_second") is None


def test_a_table_of_figures_has_ours_first_and_an_empty_cell_where_nothing_was_measured() -> None:
    rows = [*ROWS, _decode(1, "fast", 30, "decode, 1 stream")]
    assert figure_table(Comparison(rows), "decode", "decode_tokens_per_second").splitlines() == [
        "| system | 8 streams | 1 stream |",
        "| --- | --- | --- |",
        "| naiad | 145 (90 - 200) |  |",
        "| fast | 75 (50 - 100) | 30 |",
        "| slow | 10 |  |",
        "| **naiad to the best peer** | **1.90 (1.80 - 2.00)** (fast) |  |",
    ]
    assert "| naiad | 100; 10.0 / 20.0 |  |" in latency_table(Comparison(rows), "decode")


def test_open_loops_say_what_failed_and_what_was_not_tried() -> None:
    figures = {"time_to_first_token_p50_ms": 50, "time_to_first_token_p99_ms": 1500, "inter_token_p99_ms": 30}
    rows = [
        Row(1, "open", "open loop, 1 requests/s", "fast", {**figures, "failed": 0}),
        Row(1, "open", "open loop, 4 requests/s", "fast", {**figures, "failed": 2}),
        Row(1, "open", "open loop, 1 requests/s", "slow", {**figures, "failed": 0}),
    ]
    text = open_loop_table(Comparison(rows))
    assert "| fast | 50 / 1,500; 30 | 50 / 1,500; 30, 2 failed |" in text
    assert "| slow | 50 / 1,500; 30 | not tried: over its capacity |" in text


def _systems() -> list[dict[str, Any]]:
    about = {
        "versions": {"naiad": "1"},
        "weights": "fp32",
        "weight_bytes": 500_000_000,
        "kv_cache": "fp32",
        "settings": "",
    }
    sane = {"says_paris": True, "same_tokens": 0.5}
    return [
        {"name": "naiad", "about": about, "sanity": sane, "problem": ""},
        {"name": "slow", "about": about, "sanity": {"says_paris": False}, "problem": "no answer within 300 s"},
        {"name": "broken", "about": None, "sanity": {}, "problem": "not installed"},
    ]


def test_systems_that_could_not_be_measured_or_talk_nonsense_stand_in_the_table() -> None:
    lines = systems_table(_systems()).splitlines()
    assert lines[2] == "| naiad | naiad 1 | fp32, 500 MB; KV fp32 |  | yes | 50% |"
    assert lines[3].startswith("| slow (**failed later**: no answer within 300 s) |") and "**no**" in lines[3]
    assert lines[4].startswith("| broken | **not measured**: not installed |")


def test_the_page_has_a_section_for_each_kind_that_was_run_and_the_share_of_the_memory_limit(tmp_path: Path) -> None:
    prefix = {"first_time_to_first_token_ms": 800, "second_time_to_first_token_ms": 80, "second_to_first": 0.1}
    rows = [
        _decode(1, "naiad", 20, "decode, 1 stream"),
        Row(1, "prefix", "shared prefix, 1000 tokens", "naiad", prefix),
    ]
    compared = Comparison(rows)
    figures = {
        "machine": {"cpu": "a CPU", "cores": 2, "kernel": "6.1"},
        "threads": 2,
        "limits": {
            "memory_read_gb_per_s": 20.0,
            "float32_gflops": 90.0,
            "bfloat16_gflops": "not measured: no torch",
            "int8_gops": 1.0,
        },
        "systems": _systems(),
        "rows": [{"round": 1}],
    }
    text = page(figures, compared)
    assert "| naiad | 500 | 40 | 50% |" in text
    assert "not measured: no torch" in text
    assert "## Shared prefix" in text and prefix_table(compared) in text
    assert "| naiad | 800 | 80 | 0.100 |" in text
    assert "## Prefill" not in text
    assert [file.name for file in draw(compared, tmp_path, "peers")] == ["peers-throughput.svg"]
