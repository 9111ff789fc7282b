"""By how much one model's perplexity differs from another's on the same text, and how sure that is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Losses = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PairedChange:
    """share: of the reference's perplexity, 0.01 is 1% more. standard_error: of `share`; NaN for a single window."""

    share: float
    standard_error: float

    def __str__(self) -> str:
        return f"{self.share:+.2%} ± {self.standard_error:.2%}"


def paired_change(losses: Losses, reference: Losses) -> PairedChange:
    """From the mean losses, in nats, of the same windows of equal length under both models.

    Windows differ in how hard they are many times more than models do on one window, so that the spread of the
    differences, not of the losses, says how far another text of the same kind could move the result.
    """
    differences = losses - reference
    ratio = float(np.exp(differences.mean()))
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else float("nan")
    return PairedChange(ratio - 1.0, ratio * spread / float(np.sqrt(len(differences))))
