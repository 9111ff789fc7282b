"""Shapley values of the words of a text, from runs of the model with some of the words left out.

Shapley values are the weighted least-squares fit of an additive model to all ways of leaving words out (Lundberg and
Lee, 2017). Here it is fitted to a sample of them, always a set of words together with its complement: interactions of
pairs of words then cancel out exactly (Covert and Lee, 2021). Where there are few runs for many words, the fit is held
towards equal shares as firmly as the noise in the runs asks for (ridge regression, averaged over its strength by
likelihood), which also says how uncertain each share is.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BoolArray = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]
# Draws per wanted set after which the rest of the sets must be too rare to be worth looking for.
_MAX_ROUNDS = 8
_LEAST_POWER = 1e-10
_STRENGTHS = np.logspace(-3, 4, 57)


@dataclass(frozen=True)
class Shares:
    """What each word brings, shape [words], and the standard errors."""

    values: FloatArray
    standard_errors: FloatArray


def all_pairs(words: int) -> tuple[BoolArray, FloatArray]:
    """Every set of words that is neither empty nor whole, one of each pair of complements, with its weight."""
    sets = ((np.arange(1, 2 ** (words - 1))[:, None] >> np.arange(words)) & 1).astype(bool)
    sizes = sets.sum(axis=1)
    combinations = np.array([math.comb(words, size) for size in range(words + 1)], float)
    return sets, 1.0 / (combinations[sizes] * sizes * (words - sizes))


def sample_pairs(words: int, count: int, chance: np.random.Generator) -> tuple[BoolArray, FloatArray]:
    """At most `count` different sets of words, shape [sets, words], drawn as the fit weighs them, and how often each.

    Sizes are spread evenly over their distribution, and words of one size are dealt out like cards, so that all are
    drawn about equally often.
    """
    weights = 1.0 / (np.arange(1, words) * (words - np.arange(1, words)))
    bounds = np.cumsum(weights) / weights.sum()
    decks: dict[int, list[int]] = {}
    found: dict[bytes, tuple[BoolArray, int]] = {}
    for _ in range(_MAX_ROUNDS):
        missing = count - len(found)
        if missing <= 0:
            break
        places = (np.arange(missing) + chance.random(missing)) / missing
        for size in np.minimum(np.searchsorted(bounds, places, side="right"), words - 2) + 1:
            deck = decks.setdefault(int(size), [])
            if len(deck) < size:
                deck[:] = chance.permutation(words).tolist()
            kept = np.zeros(words, bool)
            kept[[deck.pop() for _ in range(size)]] = True
            if not kept[0]:
                kept = ~kept  # a set stands for its complement, too
            key = np.packbits(kept).tobytes()
            found[key] = (kept, found[key][1] + 1 if key in found else 1)
    sets = np.array([kept for kept, _ in found.values()]).reshape(-1, words)
    return sets, np.array([times for _, times in found.values()], float)


def fit_pairs(sets: BoolArray, weights: FloatArray, differences: FloatArray, total: float, exact: bool) -> Shares:
    """Shares that sum to `total`. `differences` are the scores with each set less those with its complement.

    `exact`: the sets are all that there are.
    """
    words = sets.shape[1]
    signs = np.where(sets, 1.0, -1.0)
    means = signs.mean(axis=1)
    scale = np.sqrt(weights / weights.mean())
    rows = (signs - means[:, None]) * scale[:, None]
    rest = (differences - means * total) * scale
    singular, right = _decompose(rows)
    turned = right @ (rows.T @ rest) / singular
    unfitted = max(0.0, float(rest @ rest - turned @ turned))
    if exact:
        return Shares(total / words + right.T @ (turned / singular), np.zeros(words))
    strengths, noises, chances = _likely(singular, turned, unfitted, len(rest))
    # Each strength, shape [strengths, 1], has its own shares and errors; they are averaged by how likely each is.
    pulled = singular**2 + strengths[:, None]
    each = (singular * turned / pulled) @ right
    values = chances @ each
    unseen = np.maximum(0.0, 1.0 - 1.0 / words - (right**2).sum(axis=0))
    spread = (noises[:, None] / pulled) @ right**2 + (noises / strengths)[:, None] * unseen
    variances = chances @ (spread + (each - values) ** 2)
    return Shares(total / words + values, np.sqrt(variances))


def _decompose(rows: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Singular values that are not 0, and their right vectors, shape [values, words], from the smaller product."""
    if len(rows) < rows.shape[1]:
        powers, vectors = np.linalg.eigh(rows @ rows.T)
    else:
        powers, vectors = np.linalg.eigh(rows.T @ rows)
    seen = powers > _LEAST_POWER * powers[-1]
    singular, vectors = np.sqrt(powers[seen]), vectors.T[seen]
    return singular, vectors if len(rows) >= rows.shape[1] else (vectors @ rows) / singular[:, None]


def _likely(
    singular: FloatArray, turned: FloatArray, unfitted: float, rows: int
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Strengths of the pull (the noise's variance over that of shares), the noise with each, and how likely it is."""
    factors = _STRENGTHS[:, None] / (singular**2 + _STRENGTHS[:, None])
    energies = factors @ turned**2 + unfitted
    energies = np.maximum(energies, 1e-12 * energies.max() + 1e-300)
    log_chances = 0.5 * np.log(factors).sum(axis=1) - 0.5 * rows * np.log(energies)
    chances = np.exp(log_chances - log_chances.max())
    return _STRENGTHS, energies / max(1, rows - 2), chances / chances.sum()
