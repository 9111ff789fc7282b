from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from examples import pair_texts, train_pairs, wordnet
from examples.labelled_texts import DataError
from examples.pair_training import ranking_scores

GROUPS, NOUNS = 90, 12


def _word(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number)) + "x"


@pytest.fixture
def tiny_wordnet(tmp_path: Path) -> Path:
    """A chain of four general things, 40 groups below it and 12 nouns in each; all of them common."""
    folder = tmp_path / "wordnet"
    folder.mkdir()
    data, index = ["  1 licence"], ["  1 licence"]

    def add(place: int, word: str, parent: int | None, gloss: str) -> None:
        pointers = "000" if parent is None else f"001 @ {parent:08d} n 0000"
        data.append(f"{place:08d} 03 n 01 {word} 0 {pointers} | {gloss}  ")
        index.append(f"{word} n 1 1 @ 1 1 {place:08d}  ")

    for level in range(4):
        add(level, f"general_{_word(level)}", level - 1 if level else None, "short")
    for group in range(GROUPS):
        kind = _word(1000 + group)
        add(100 + group, kind, 3, "too short")  # To be a topic, but never asked for.
        for noun in range(NOUNS):
            word = _word(10_000 + 100 * group + noun)
            add(1000 + 100 * group + noun, word, 100 + group, f'the {kind} that is known as {word}; "see the {word}"')
    (folder / "data.noun").write_text("\n".join(data) + "\n", encoding="ascii")
    (folder / "index.noun").write_text("\n".join(index) + "\n", encoding="ascii")
    return folder


def test_wordnet_is_read_with_kinds_and_examples(tiny_wordnet: Path) -> None:
    senses = wordnet.read_nouns(tiny_wordnet)
    sense = senses["00001000"]
    assert sense.definition == f"the {_word(1000)} that is known as {_word(10_000)}"
    assert sense.examples == (f"see the {_word(10_000)}",)
    assert wordnet.ancestors(senses, "00001000") == {"00000100", "00000003", "00000002", "00000001", "00000000"}
    assert wordnet.read_common(tiny_wordnet)[_word(10_000)] == "00001000"


def test_questions_have_one_answer_and_the_parts_share_no_noun(tiny_wordnet: Path) -> None:
    data = pair_texts.relevance_pairs(200, 3, tiny_wordnet)
    assert len(data.train) >= 200
    assert 0.2 < sum(pair.fits for pair in data.train) / len(data.train) < 0.3
    for pair in data.train:
        asked = next(word for word in pair.first.strip("?.").split() if word.endswith("x"))
        assert not pair_texts.is_held_out(asked)
        assert pair.fits == (asked in pair.second.split() or f"{asked}:" in pair.second.split())
    for choice in data.held_out:
        (question, answer), *others = choice.pairs
        asked = next(word for word in question.strip("?.").split() if word.endswith("x"))
        assert pair_texts.is_held_out(asked) and asked in answer
        assert all(asked not in text.split() for _, text in others)


def test_topics_are_kinds_and_the_parts_share_none(tiny_wordnet: Path) -> None:
    data = pair_texts.entailment_pairs(100, 3, tiny_wordnet)
    topics = [{pair.second for pair in data.train}, {text for choice in data.held_out for _, text in choice.pairs}]
    assert topics[0] and topics[1] and not topics[0] & topics[1]
    for pair in data.train:
        topic = pair.second.removeprefix("This text is about ").rstrip(".")
        assert pair.fits == (topic in pair.first.split())


def test_ranks_count_ties_against_the_model() -> None:
    scores = [np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 0.0]), np.array([0.0, 1.0, 2.0])]
    assert ranking_scores(scores) == {"first": 0.3333, "mrr": 0.6111}


@pytest.mark.parametrize("kind", ["relevance", "entailment"])
def test_training_gives_a_checkpoint_and_says_how_good_it_is(
    *,
    kind: str,
    tiny_bert: Path,
    tiny_wordnet: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    preset = train_pairs.QUICK[kind]
    monkeypatch.setitem(train_pairs.QUICK, kind, replace(preset, options=replace(preset.options, trained_layers=1)))
    output = tmp_path / "output"
    arguments = ["--kind", kind, "--quick", "--pairs", "64", "--base", str(tiny_bert), "--wordnet", str(tiny_wordnet)]
    assert train_pairs.main([*arguments, "--output", str(output)]) == 0
    record = json.loads((output / "training.json").read_text(encoding="utf-8"))
    assert record["held_out_ranking"].keys() == {"model", "cosine"}
    config = json.loads((output / "config.json").read_text())
    assert list(config["id2label"].values()) == list(train_pairs.KINDS[kind].labels) == record["labels"]
    capsys.readouterr()
    assert train_pairs.main([*arguments, "--output", str(output)]) == 0
    assert "is up to date" in capsys.readouterr().out


def test_without_wordnet_one_line_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_pairs.main(["--wordnet", str(tmp_path), "--base", str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: there is no WordNet here: apt-get install wordnet-base\n"
    with pytest.raises(DataError, match="apt-get install wordnet-base"):
        wordnet.read_common(tmp_path)
