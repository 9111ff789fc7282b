"""Moderation by a classification model of the repository, through Triton."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from services.common.activation import activate
from services.common.call import new_request_id
from services.common.errors import NaiadError, Reason
from services.common.registry import Task
from services.common.text_models import TextModel, TextModels
from services.common.triton_client import unavailable
from services.common.triton_inference import PooledInference
from services.common.triton_messages import infer_request
from services.generation.safety.metrics import SafetyMetrics

LOGITS = "logits"
MAX_PACK_TOKENS = 4096
TIMEOUT_S = 30.0

Scores = Mapping[str, float]


class ModerationClassifier:
    """Scores texts by label."""

    def __init__(self, inference: PooledInference, models: TextModels, metrics: SafetyMetrics) -> None:
        self._inference = inference
        self._models = models
        self._metrics = metrics

    async def scores(self, name: str, texts: Sequence[str]) -> Sequence[Scores]:
        """For each text the highest score that each label has in any part of it. Raises NaiadError."""
        model = await self._models.get(name, Task.CLASSIFY)
        with self._metrics.classifier_duration.labels(name).time():
            parts = await self._models.run(sum(map(len, texts)), lambda: [_parts(model, text) for text in texts])
            flat = [part for parts_of_text in parts for part in parts_of_text]
            rows = iter([row for pack in _packs(flat) for row in await self._run(model, pack)])
        labels = model.entry.labels
        found = []
        for parts_of_text in parts:
            highest = np.max([next(rows) for _ in parts_of_text], axis=0)
            found.append(dict(zip(labels, highest.tolist(), strict=True)))
        return found

    async def _run(self, model: TextModel, pack: Sequence[Any]) -> Any:
        entry = model.entry
        inputs = {
            "input_ids": np.array([token for part in pack for token in part.ids], np.int32),
            "sequence_lengths": np.array([len(part) for part in pack], np.int32),
        }
        if entry.uses_token_type_ids:
            inputs["token_type_ids"] = np.array([kind for part in pack for kind in part.type_ids], np.int32)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await self._inference.infer(infer_request(entry.name, new_request_id(), inputs, {}, (LOGITS,)))
        except TimeoutError:
            raise unavailable() from None
        logits = reply.outputs.get(LOGITS)
        if logits is None or logits.shape != (len(pack), len(entry.labels)):
            raise NaiadError(Reason.INTERNAL, f"classifier {entry.name} gave no logits of its labels")
        return activate(logits, entry.activation)


def _parts(model: TextModel, text: str) -> list[Any]:
    """The text as parts that the model can read whole."""
    (encoded,) = model.tokenizer.encode([text])
    if len(encoded) <= model.entry.context_length_tokens or len(text) < 2:
        return model.tokenizer.encode([text], max_length=model.entry.context_length_tokens)
    middle = len(text) // 2
    return [*_parts(model, text[:middle]), *_parts(model, text[middle:])]


def _packs(parts: Sequence[Any]) -> list[list[Any]]:
    packs: list[list[Any]] = []
    tokens = MAX_PACK_TOKENS
    for part in parts:
        if tokens + len(part) > MAX_PACK_TOKENS:
            packs.append([])
            tokens = 0
        packs[-1].append(part)
        tokens += len(part)
    return packs
