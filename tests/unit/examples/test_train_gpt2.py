"""The text that the GPT-2 recipe learns from."""

from pathlib import Path

import pytest

from examples.labelled_texts import DataError
from examples.train_gpt2 import read_corpus


def test_every_twentieth_file_is_held_out_and_tests_are_left_out(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"m{number:02}.py").write_text(f"number = {number}\n")
    (tmp_path / "test").mkdir()
    (tmp_path / "test" / "t.py").write_text("never = True\n")
    corpus = read_corpus(tmp_path)
    assert corpus.held_out.split() == ["number", "=", "19", "number", "=", "39"]
    assert len(corpus.train) == 38
    assert not any("never" in text or "= 19" in text for text in corpus.train)


def test_too_few_sources_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 Python sources"):
        read_corpus(tmp_path)
