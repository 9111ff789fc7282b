"""From the engine's vectors to the ones that were asked for."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def shape_vectors(vectors: FloatArray, dimensions: int | None, normalize: bool) -> FloatArray:
    """The first `dimensions` of each vector, shape [vectors, hidden], then scaled to length 1 if wanted.

    A vector of length 0 stays as it is.
    """
    kept = vectors[:, :dimensions]
    if not normalize:
        return kept
    wide = kept.astype(np.float64)
    lengths = np.sqrt(np.add.reduce(wide * wide, axis=1, keepdims=True))
    lengths[lengths == 0] = 1.0
    wide /= lengths
    return wide.astype(np.float32)


def shape_rows(rows: Sequence[FloatArray], dimensions: int | None, normalize: bool) -> list[FloatArray]:
    """`shape_vectors` of the rows of each text, computed together: a vector's own bits do not depend on that."""
    if len(rows) <= 1:
        return [shape_vectors(of_text, dimensions, normalize) for of_text in rows]
    together = shape_vectors(np.concatenate(rows), dimensions, normalize)
    ends = itertools.accumulate(map(len, rows))
    return [together[end - len(of_text) : end] for end, of_text in zip(ends, rows, strict=True)]


def cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """The cosine of each vector of `first`, shape [n, hidden], with each of `second`, shape [m, hidden]: shape [n, m].

    From -1 to 1; 0 with a vector of length 0.
    """
    # Row by row: a matrix product's rounding would depend on how many other texts are in the call.
    columns = [np.einsum("nh,h->n", _unit(first), vector) for vector in _unit(second)]
    found: FloatArray = np.clip(np.stack(columns, axis=1), -1.0, 1.0).astype(np.float32)
    return found


def _unit(vectors: FloatArray) -> npt.NDArray[np.float64]:
    wide = vectors.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=1, keepdims=True)
    scaled: npt.NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1.0)
    return scaled
