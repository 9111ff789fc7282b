"""From the engine's vectors to the ones that were asked for."""

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
    lengths = np.linalg.norm(kept.astype(np.float64), axis=1, keepdims=True)
    return (kept / np.where(lengths > 0, lengths, 1.0)).astype(np.float32)
