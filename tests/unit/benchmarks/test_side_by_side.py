"""The command line of the benchmark, and a whole run with a scripted system."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.comparison import Row
from benchmarks.fleet import Fleet
from benchmarks.loads import Decode, SharedPrefix
from benchmarks.sanity import same_tokens
from benchmarks.side_by_side import parse
from benchmarks.systems.catalogue import System


class FakeCheck:
    """A sanity check that asks nothing."""

    def answers(self, _: object) -> list[list[int]]:
        return [[1, 2]]

    def verdict(self, answers: object, reference: object) -> dict[str, object]:
        return {"answers": answers, "reference": reference}


class FakeSystemSpec(System):
    """The scripted system of this folder."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "benchmarks.systems.worker", "tests.unit.benchmarks.fake_system"]


def test_one_round_of_all_systems_with_one_that_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing = System("missing", "fake", needs=tmp_path / "nowhere")
    fleet = Fleet(
        [FakeSystemSpec("fake a", "fake"), missing, FakeSystemSpec("fake b", "fake")],
        FakeCheck(),
        [Decode(1)],
        2,
        tmp_path,
    )
    fleet.start()
    rows: list[Row] = []
    try:
        for load in (Decode(2), SharedPrefix(50)):
            rows += fleet.measure(load, 1, first=2)
    finally:
        fleet.stop()
    assert [(row.system, row.load) for row in rows] == [
        ("fake b", "decode, 2 streams"),
        ("fake a", "decode, 2 streams"),
    ]
    assert rows[0].figures["decode_tokens_per_second"] == pytest.approx(2)
    told = {one["name"]: one for one in fleet.report()}
    assert told["fake b"]["sanity"] == {"answers": [[1, 2]], "reference": None} and told["missing"]["sanity"] == {}
    assert "make bench-peers" in told["missing"]["problem"] and told["missing"]["about"] is None
    assert told["fake a"]["problem"] == "" and told["fake a"]["about"]["versions"] == {"fake": "1"}
    assert "fake b: ready" in capsys.readouterr().out


def test_options_choose_peers_and_loads_and_refuse_what_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    options = parse(["--quick", "--peers", "llama.cpp,transformers", "--loads", "prefix,open"])
    assert [system.name for system in options.systems()] == ["naiad", "naiad engine", "llama.cpp", "transformers"]
    assert {load.kind for load in options.chosen_loads()} == {"prefix", "open"}
    assert options.repeats == 2
    assert [system.name for system in parse(["--peers", ""]).systems()] == ["naiad", "naiad engine"]
    with pytest.raises(SystemExit):
        parse(["--peers", "llama"])
    assert "--peers: no llama; there are llama.cpp, " in capsys.readouterr().err


def test_agreement_is_counted_place_by_place() -> None:
    assert same_tokens([[1, 2, 3, 4], [5, 6]], [[1, 2, 9, 4], [5, 6]], 0) == pytest.approx(5 / 6)
    assert same_tokens([[1]], [[1, 2]], 0) == 0.5  # A text that ended early agrees less.
    assert same_tokens([[1, 0, 7], [2, 8, 9]], [[1, 0, 4], [2, 0, 4]], 0) == 1  # Nothing counts after the end.
