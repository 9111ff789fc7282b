"""Packing, activations, ranking and shaping of vectors."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classification.scores import best_first
from services.classification.vectors import shape_rows, shape_vectors
from services.common.activation import activate


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


@given(st.lists(st.integers(1, 5), min_size=1, max_size=40), st.integers(1, 400), st.booleans())
def test_a_texts_vectors_have_the_same_bits_in_any_company(counts: list[int], dimensions: int, normalize: bool) -> None:
    random = np.random.default_rng(len(counts))
    rows = [random.standard_normal((count, 384)).astype(np.float32) for count in counts]
    together = shape_rows(rows, dimensions, normalize)
    for of_text, shaped in zip(rows, together, strict=True):
        assert shaped.tobytes() == shape_vectors(of_text, dimensions, normalize).tobytes()


def test_no_texts_have_no_vectors() -> None:
    assert shape_rows([], 3, normalize=True) == []
