"""Vectors of label sentences, kept: the same labels come with call after call."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from services.common.text_models import TextModel

FloatArray = npt.NDArray[np.float32]
MAX_SENTENCES = 1_000


class LabelVectors:
    """The vectors of the sentences that were used last, at most 1,000 a model; gone with the model they came from."""

    def __init__(self, max_sentences: int = MAX_SENTENCES) -> None:
        self._max_sentences = max_sentences
        self._kept: WeakKeyDictionary[TextModel, OrderedDict[str, FloatArray]] = WeakKeyDictionary()

    def known(self, model: TextModel, sentences: Sequence[str]) -> dict[str, FloatArray]:
        """Those of the sentences whose vectors are there."""
        kept = self._kept.get(model)
        if kept is None:
            return {}
        found = {sentence: kept[sentence] for sentence in sentences if sentence in kept}
        for sentence in found:
            kept.move_to_end(sentence)
        return found

    def keep(self, model: TextModel, vectors: Mapping[str, FloatArray]) -> None:
        """Keeps new vectors instead of those that were not used for longest."""
        kept = self._kept.setdefault(model, OrderedDict())
        for sentence, vector in vectors.items():
            kept[sentence] = vector.copy()  # not a view, which would keep the engine's whole answer
            kept.move_to_end(sentence)
        while len(kept) > self._max_sentences:
            kept.popitem(last=False)
