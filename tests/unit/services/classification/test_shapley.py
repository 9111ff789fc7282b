"""Shapley values from sampled sets of words, against those that all sets give."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from services.classification.shapley import all_pairs, fit_pairs, sample_pairs

Game = Callable[[np.ndarray], np.ndarray]


def random_game(words: int, seed: int) -> Game:
    """Words have a value each, and more or less in company: of any two, and of any three in a row."""
    chance = np.random.default_rng(seed)
    alone, pairs, triples = chance.normal(size=words), chance.normal(size=(words, words)), chance.normal(size=words)

    def value(sets: np.ndarray) -> np.ndarray:
        kept = sets.astype(float)
        of_pairs = np.einsum("si,ij,sj->s", kept, pairs, kept)
        of_triples = (kept * np.roll(kept, 1, axis=1) * np.roll(kept, 2, axis=1)) @ triples
        return kept @ alone + 0.3 * of_pairs + of_triples

    return value


def true_shares(words: int, value: Game) -> np.ndarray:
    """By the definition: the mean over all orders of what a word adds."""
    sets = np.array(list(itertools.product([False, True], repeat=words)))
    shares = np.zeros(words)
    for word in range(words):
        without = sets[~sets[:, word]]
        with_it = without.copy()
        with_it[:, word] = True
        sizes = without.sum(axis=1)
        weights = np.array([math.factorial(k) * math.factorial(words - k - 1) for k in range(words)])[sizes]
        shares[word] = weights @ (value(with_it) - value(without)) / math.factorial(words)
    return shares


def ends(words: int, value: Game) -> float:
    return float(np.diff(value(np.array([np.zeros(words, bool), np.ones(words, bool)])))[0])


@pytest.mark.parametrize("words", [2, 3, 5, 8])
def test_all_sets_give_the_very_values(words: int) -> None:
    value = random_game(words, words)
    sets, weights = all_pairs(words)
    assert len(sets) == 2 ** (words - 1) - 1
    shares = fit_pairs(sets, weights, value(sets) - value(~sets), ends(words, value), exact=True)
    assert np.allclose(shares.values, true_shares(words, value), atol=1e-9)
    assert np.all(shares.standard_errors == 0)


@pytest.mark.parametrize("pairs", [12, 60, 240])
def test_a_sample_comes_near_and_says_how_near(pairs: int) -> None:
    value = random_game(12, 3)
    expected, total = true_shares(12, value), ends(12, value)
    within, errors = [], []
    for seed in range(20):
        sets, weights = sample_pairs(12, pairs, np.random.Generator(np.random.PCG64(seed)))
        shares = fit_pairs(sets, weights, value(sets) - value(~sets), total, exact=False)
        assert shares.values.sum() == pytest.approx(total)
        within.append(np.abs(shares.values - expected) <= 3 * shares.standard_errors)
        errors.append(np.linalg.norm(shares.values - expected))
    assert np.mean(within) > 0.9
    assert np.mean(errors) < {12: 1.5, 60: 0.35, 240: 0.12}[pairs] * np.linalg.norm(expected)


def test_an_additive_game_is_found_exactly() -> None:
    alone = np.random.default_rng(1).normal(size=30)
    sets, weights = sample_pairs(30, 100, np.random.default_rng(2))
    values = sets @ alone - ~sets @ alone
    shares = fit_pairs(sets, weights, values, float(alone.sum()), exact=False)
    assert np.allclose(shares.values, alone, atol=1e-3)
    assert np.all(shares.standard_errors < 1e-2)


def test_few_runs_for_many_words_are_uncertain_and_still_sum_up() -> None:
    alone = np.random.default_rng(1).normal(size=300)
    sets, weights = sample_pairs(300, 20, np.random.default_rng(2))
    shares = fit_pairs(sets, weights, sets @ alone - ~sets @ alone, float(alone.sum()), exact=False)
    assert shares.values.sum() == pytest.approx(alone.sum())
    assert np.mean(np.abs(shares.values - alone) <= 2 * shares.standard_errors) > 0.7


def test_a_game_that_nothing_moves_has_no_shares() -> None:
    sets, weights = sample_pairs(20, 50, np.random.default_rng(2))
    shares = fit_pairs(sets, weights, np.zeros(len(sets)), 0.0, exact=False)
    assert np.allclose(shares.values, 0) and np.allclose(shares.standard_errors, 0, atol=1e-6)


def test_samples_are_different_sets_balanced_and_repeatable() -> None:
    sets, weights = sample_pairs(40, 200, np.random.Generator(np.random.PCG64(7)))
    again, _ = sample_pairs(40, 200, np.random.Generator(np.random.PCG64(7)))
    other, _ = sample_pairs(40, 200, np.random.Generator(np.random.PCG64(8)))
    assert np.array_equal(sets, again) and not np.array_equal(sets, other)
    assert len(np.unique(np.concatenate([sets, ~sets]), axis=0)) == 2 * len(sets) == 400
    assert weights.sum() >= 200
    lone = np.minimum(sets.sum(axis=1), 40 - sets.sum(axis=1)) == 1
    singles = np.where(sets.sum(axis=1)[:, None] == 1, sets, ~sets)[lone]
    assert np.all(singles.sum(axis=0) <= 1)  # each word alone once, and not again


@pytest.mark.parametrize("words", [2, 3])
def test_few_words_have_few_sets(words: int) -> None:
    sets, _ = sample_pairs(words, 100, np.random.default_rng(1))
    assert len(sets) == 2 ** (words - 1) - 1
