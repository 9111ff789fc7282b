"""Packing, activations, ranking and shaping of vectors."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classification.packing import split_into_packs
from services.classification.scores import best_first
from services.classification.vectors import shape_vectors
from services.common.activation import activate


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_packs_cover_all_texts_in_order_and_keep_the_bound(lengths: list[int], max_tokens: int) -> None:
    packs = split_into_packs(lengths, max_tokens)
    assert [index for pack in packs for index in pack] == list(range(len(lengths)))
    for pack in packs:
        assert len(pack) == 1 or sum(lengths[index] for index in pack) <= max_tokens
    for pack, following in itertools.pairwise(packs):
        # The next text did not fit any more.
        assert sum(lengths[index] for index in pack) + lengths[following.start] > max_tokens


def test_softmax_and_sigmoid_stay_finite_for_huge_logits() -> None:
    logits = np.array([[1e4, 0.0, -1e4]], np.float32)
    assert activate(logits, "softmax").tolist() == [[1.0, 0.0, 0.0]]
    assert activate(logits, "sigmoid").tolist() == [[1.0, 0.5, 0.0]]
    assert activate(logits, "none").tolist() == logits.tolist()


def test_softmax_is_the_textbook_one() -> None:
    scores = activate(np.log(np.array([[1.0, 2.0, 5.0]], np.float32)), "softmax")
    assert np.allclose(scores, [[0.125, 0.25, 0.625]])


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(ValueError, match="relu"):
        activate(np.zeros((1, 1), np.float32), "relu")


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    assert best_first(np.array([0.1, 0.4, 0.4, 0.1], np.float32), None).tolist() == [1, 2, 0, 3]
    assert best_first(np.array([0.1, 0.4, 0.4, 0.1], np.float32), 1).tolist() == [1]


def test_a_vector_of_length_zero_stays_as_it_is() -> None:
    vectors = np.array([[0.0, 0.0], [3.0, 4.0]], np.float32)
    assert np.allclose(shape_vectors(vectors, None, normalize=True), [[0.0, 0.0], [0.6, 0.8]])
