"""From logits to scores."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.common.activation import activate

FloatArray = npt.NDArray[np.float32]


def best_first(scores: FloatArray, top_k: int | None) -> npt.NDArray[np.intp]:
    """Indices of the labels of one text, shape [labels], best first; of equal ones the first label first."""
    order: npt.NDArray[np.intp] = np.argsort(-scores, kind="stable")
    return order[:top_k]


def best_labels(logits: FloatArray) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """The best label of each row of logits, shape [tokens, labels], and its probability by softmax."""
    best: npt.NDArray[np.intp] = np.argmax(logits, axis=1)
    wide = logits.astype(np.float64)
    powers = np.exp(wide - wide.max(axis=1, keepdims=True))
    scores: FloatArray = (1.0 / powers.sum(axis=1)).astype(np.float32)  # the best one's power is 1
    return best, scores


@dataclass(frozen=True)
class NliColumns:
    """Places of the logits of a model that judges whether one text follows from another."""

    entailment: int
    contradiction: int | None


def entailment_scores(logits: FloatArray, columns: NliColumns, multi_label: bool) -> FloatArray:
    """Scores of labels, shape [texts, labels], from the logits of each text with each label, [texts, labels, logits].

    Those of one text sum to 1, a softmax over how much each label is entailed; with `multi_label` each stands alone,
    entailment against contradiction (against all others, if the model has no contradiction).
    """
    entailed = logits[:, :, columns.entailment]
    if not multi_label:
        return activate(entailed, "softmax")
    texts, labels, width = logits.shape
    if width == 1:
        return activate(entailed, "sigmoid")
    rows = logits.reshape(texts * labels, width)
    if columns.contradiction is None:
        shares = activate(rows, "softmax")[:, columns.entailment]
    else:
        shares = activate(rows[:, [columns.entailment, columns.contradiction]], "softmax")[:, 0]
    scores: FloatArray = shares.reshape(texts, labels)
    return scores
