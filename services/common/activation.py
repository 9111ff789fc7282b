"""From logits to scores, as the checkpoint of a classifier says."""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
ACTIVATIONS = ("softmax", "sigmoid", "none")


def activate(logits: FloatArray, activation: str) -> FloatArray:
    """Scores of the logits, shape [texts, labels], by one of ACTIVATIONS."""
    if activation == "none":
        return logits
    wide = logits.astype(np.float64)
    if activation == "sigmoid":
        # Of the two equal forms, tanh does not overflow.
        scores: FloatArray = (0.5 * (1.0 + np.tanh(0.5 * wide))).astype(np.float32)
        return scores
    if activation != "softmax":
        raise ValueError(f"unknown activation {activation!r}")
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    shares: FloatArray = (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)
    return shares
