"""8-bit weights of the demo encoders against their float ones, on texts that nothing was trained on."""

import csv
from pathlib import Path

import pytest

from examples import quality_texts
from exporters.compare_encoder import compare, main
from exporters.errors import ExportError
from tests.support.models import demo_model

pytestmark = pytest.mark.conformance


@pytest.fixture(scope="module")
def held_out_reviews(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    assert quality_texts.main(["--output", str(folder)]) == 0
    return folder / "held_out_reviews.csv"


def read(table: Path) -> tuple[list[str], list[str]]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [row["text"] for row in rows], [row["label"] for row in rows]


def test_labels_are_right_as_often(held_out_reviews: Path) -> None:
    compared = compare(demo_model("sentiment"), *read(held_out_reviews))
    assert compared.texts > 1000
    assert compared.accuracy_fp32 is not None and compared.accuracy_int8 is not None
    assert compared.accuracy_fp32 > 0.75  # else two broken models could agree
    assert abs(compared.accuracy_int8 - compared.accuracy_fp32) <= 0.005


def test_vectors_point_the_same_way(held_out_reviews: Path) -> None:
    texts, _ = read(held_out_reviews)
    compared = compare(demo_model("embed"), texts[:256], [])
    assert compared.mean_cosine is not None and compared.least_cosine is not None
    assert compared.mean_cosine >= 0.99 and compared.least_cosine >= 0.97


def test_what_cannot_be_compared_is_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ExportError, match="'sad' is no label"):
        compare(demo_model("sentiment"), ["A fine film."], ["sad"])
    table = tmp_path / "texts.csv"
    table.write_text("body\nA fine film.\n")
    assert main([str(demo_model("sentiment")), "--table", str(table)]) == 2
    assert "column named text" in capsys.readouterr().err
    table.write_text("text\nA fine film.\n")
    assert main([str(demo_model("chat")), "--table", str(table)]) == 2
    assert "no entry of a classifier" in capsys.readouterr().err
