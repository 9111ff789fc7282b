"""Scores of entailment, cosines, label vectors, and rows of windows."""

import numpy as np
import pytest

from services.classification.label_vectors import LabelVectors
from services.classification.scores import NliColumns, best_labels, entailment_scores
from services.classification.vectors import cosines
from services.classification.window_inputs import WindowedText
from services.common.text_models import TextModel, TextModels
from services.common.tokenizer import TextTokenizer
from tests.support.small_models import bert_tokenizer


def test_the_best_label_of_each_token_and_its_probability() -> None:
    best, scores = best_labels(np.array([[0.0, np.log(3.0)], [1e4, 0.0]], np.float32))
    assert best.tolist() == [1, 0]
    assert scores.tolist() == pytest.approx([0.75, 1.0])
    assert [len(part) for part in best_labels(np.empty((0, 3), np.float32))] == [0, 0]


LOGITS = np.log(np.array([[[1, 5, 3], [1, 5, 1]]], np.float32))  # contradiction, neutral, entailment of two labels


def test_scores_of_one_label_a_text_are_shares_of_entailment() -> None:
    assert entailment_scores(LOGITS, NliColumns(2, 0), multi_label=False)[0].tolist() == pytest.approx([0.75, 0.25])


def test_scores_of_several_labels_weigh_entailment_against_contradiction() -> None:
    assert entailment_scores(LOGITS, NliColumns(2, 0), multi_label=True)[0].tolist() == pytest.approx([0.75, 0.5])


def test_without_contradiction_all_other_labels_stand_against_entailment() -> None:
    assert entailment_scores(LOGITS, NliColumns(2, None), multi_label=True)[0].tolist() == pytest.approx([1 / 3, 1 / 7])
    alone = entailment_scores(np.zeros((1, 2, 1), np.float32), NliColumns(0, None), multi_label=True)
    assert alone.tolist() == [[0.5, 0.5]]


def test_cosines_ignore_length_stay_in_range_and_are_the_same_in_any_company() -> None:
    chance = np.random.default_rng(1)
    first = chance.normal(size=(40, 384)).astype(np.float32)
    second = np.concatenate([first[:3] * 7, np.zeros((1, 384), np.float32)])
    together = cosines(first, second)
    assert together.shape == (40, 4)
    assert np.allclose(np.diag(together[:3, :3]), 1) and np.all(np.abs(together) <= 1)
    assert together[:, 3].tolist() == [0.0] * 40
    for row in range(40):
        assert np.array_equal(cosines(first[row : row + 1], second), together[row : row + 1])


async def test_label_vectors_that_were_not_used_for_longest_are_dropped(text_models: TextModels) -> None:
    model: TextModel = await text_models.get("embed")
    other: TextModel = await text_models.get("sentiment")
    vectors = {name: np.full(3, i, np.float32) for i, name in enumerate("abc")}
    kept = LabelVectors(max_sentences=2)
    kept.keep(model, {"a": vectors["a"], "b": vectors["b"]})
    assert list(kept.known(model, ["a"])) == ["a"]
    kept.keep(model, {"c": vectors["c"]})
    assert set(kept.known(model, ["a", "b", "c"])) == {"a", "c"}
    assert kept.known(other, ["a"]) == {}


def test_windows_have_special_tokens_each_and_every_token_gets_one_row() -> None:
    (encoded,) = TextTokenizer(bert_tokenizer()).encode(["a b c d a b c d"])
    text = WindowedText(encoded, limit_tokens=6, overlap_tokens=2)
    assert [window.ids for window in text.inputs] == [
        [2, *ids, 3] for ids in ([10, 11, 12, 13], [12, 13, 10, 11], [10, 11, 12, 13])
    ]
    assert [window.type_ids for window in text.inputs] == [[0] * 6] * 3
    rows = [np.arange(6, dtype=np.float32)[:, None] + 10 * number for number in range(3)]
    assert text.owned_rows(rows)[:, 0].tolist() == [1, 2, 3, 12, 13, 22, 23, 24]
    assert text.tokens == 10


def test_a_text_without_tokens_of_its_own_has_no_rows() -> None:
    (encoded,) = TextTokenizer(bert_tokenizer()).encode([""])
    text = WindowedText(encoded, limit_tokens=6, overlap_tokens=0)
    assert [window.ids for window in text.inputs] == [[2, 3]]
    assert text.owned_rows([np.zeros((2, 5), np.float32)]).shape == (0, 5)
