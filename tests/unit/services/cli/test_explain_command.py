"""`naiad explain`."""

import json
from collections.abc import Iterator

import pytest
from naiad.v1 import classification_pb2 as pb

from tests.unit.services.cli import fake_bulk
from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_bulk import BulkService


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[BulkService]:
    found = BulkService()
    found.explanation = pb.ExplainResponse(
        label="positive",
        score=0.9,
        baseline_score=0.4,
        words=[
            pb.WordContribution(word="Good", contribution=0.6, standard_error=0.02),
            pb.WordContribution(word="but", contribution=-0.15, standard_error=0.01),
            pb.WordContribution(word="long", contribution=0.0, standard_error=0.01),
        ],
        fidelity=0.8,
        samples=512,
        method=pb.EXPLAIN_METHOD_SHAPLEY,
    )
    with fake_bulk.running(found) as port:
        monkeypatch.setenv("NAIAD_CLASSIFICATION_ADDRESS", f"127.0.0.1:{port}")
        yield found


def test_words_are_shown_with_bars_to_both_sides(naiad: Naiad, service: BulkService) -> None:
    result = naiad("explain", "Good but long")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0] == "positive 0.9000: 0.4000 without words, +0.5000 by them"
    assert lines[3] == "Good  +0.6000       ± 0.0200                  │" + "█" * 16
    assert lines[4] == "but   -0.1500       ± 0.0100              ████│"
    assert lines[5] == "long  +0.0000       ± 0.0100                  │"
    assert lines[-1] == "shapley, 512 runs of the model, fidelity 0.800"
    assert "\x1b" not in result.out


def test_colours_are_there_when_asked_for(naiad: Naiad, service: BulkService, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[32m" in naiad("explain", "--color", "always", "Good").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in naiad("explain", "Good").out


def test_options_reach_the_service(naiad: Naiad, service: BulkService) -> None:
    words = ("--label", "negative", "--method", "occlusion", "--samples", "99", "--seed", str(2**64 - 1), "--truncate")
    assert naiad("explain", "--model", "m", *words, stdin="a text\n").code == 0
    assert service.explains[0] == pb.ExplainRequest(
        model="m",
        text="a text\n",
        label="negative",
        method=pb.EXPLAIN_METHOD_OCCLUSION,
        max_samples=99,
        seed=2**64 - 1,
        truncate=True,
    )


def test_json_is_the_response(naiad: Naiad, service: BulkService) -> None:
    shown = json.loads(naiad("explain", "--json", "Good").out)
    assert shown["label"] == "positive" and shown["samples"] == 512
    assert [word["word"] for word in shown["words"]] == ["Good", "but", "long"]


def test_a_text_without_words_has_no_table(naiad: Naiad, service: BulkService) -> None:
    del service.explanation.words[:]
    assert len(naiad("explain", "").out.splitlines()) == 3


@pytest.mark.parametrize("seed", ["-1", str(2**64)])
def test_a_seed_out_of_range_is_wrong_usage(naiad: Naiad, service: BulkService, seed: str) -> None:
    result = naiad("explain", "--seed", seed, "Good")
    assert result.code == 2 and "--seed" in result.err
