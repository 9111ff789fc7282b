"""One text with any of its words left out, and the scores that a classifier gives it then."""

from collections.abc import Sequence

import numpy as np

from services.classification.encoder_client import LOGITS, EncoderClient, EncoderJob
from services.classification.shapley import BoolArray, FloatArray
from services.classification.window_inputs import WindowInput
from services.classification.words import Word
from services.common.activation import activate
from services.common.registry import ModelEntry
from services.common.tokenizer import Encoded

# Tokens of the runs that are made at a time: memory stays small, and a call that ends leaves little behind.
_WAVE_TOKENS = 65_536


class MaskedText:
    """The tokens of a text, of which those of any words can be left out.

    A mask token stands in for each token of a left-out word, if the model was trained with one: the others keep their
    places, and the model knows that something it cannot see is there. Else the tokens are removed.
    """

    def __init__(self, encoded: Encoded, words: Sequence[Word], mask_id: int | None) -> None:
        self._ids = np.array(encoded.ids)
        self._type_ids = np.array(encoded.type_ids)
        self._mask_id = mask_id
        # Which word a token belongs to; one past the last for tokens of none, which always stay.
        self._owners = np.full(len(self._ids), len(words))
        for number, word in enumerate(words):
            self._owners[list(word.tokens)] = number
        self.tokens = len(self._ids)
        # Whether something is left for the model when no word is.
        self.can_be_empty = mask_id is not None or bool((self._owners == len(words)).any())

    def runs(self, kept_words: BoolArray) -> list[WindowInput]:
        """What the model reads for each set of words that are kept, shape [sets, words]."""
        kept = np.column_stack([kept_words, np.ones(len(kept_words), bool)])[:, self._owners]
        if self._mask_id is None:
            return [WindowInput(self._ids[row].tolist(), self._type_ids[row].tolist()) for row in kept]
        type_ids = self._type_ids.tolist()
        return [WindowInput(ids, type_ids) for ids in np.where(kept, self._ids, self._mask_id).tolist()]


class MaskedScores:
    """Scores of a text with words left out. `queue_us` and `compute_us` are the longest of any part."""

    def __init__(self, client: EncoderClient, entry: ModelEntry, text: MaskedText) -> None:
        self._client = client
        self._entry = entry
        self._text = text
        self.queue_us = 0
        self.compute_us = 0

    async def of(self, kept_words: BoolArray) -> FloatArray:
        """Scores of all labels for each set of words, shape [sets, labels], by the model's own activation."""
        job = EncoderJob(LOGITS, len(self._entry.labels))
        rows = []
        sets_a_wave = max(1, _WAVE_TOKENS // self._text.tokens)
        for start in range(0, len(kept_words), sets_a_wave):
            runs = self._text.runs(kept_words[start : start + sets_a_wave])
            answer = await self._client.run(self._entry, runs, job)
            self.queue_us = max(self.queue_us, answer.queue_us)
            self.compute_us = max(self.compute_us, answer.compute_us)
            rows += answer.rows
        return activate(np.concatenate(rows), self._entry.activation).astype(np.float64)
