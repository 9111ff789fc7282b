"""Embed, free of gRPC."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.classification.encoder_client import EMBEDDINGS, HIDDEN_STATES, EncoderJob
from services.classification.text_batches import ITEM_BYTES, TextBatches, Timings, check_items
from services.classification.vectors import shape_rows
from services.common.errors import NaiadError, invalid_field
from services.common.registry import Task

FloatArray = npt.NDArray[np.float32]
NO_POOLING = "none"
_FLOAT_BYTES = 4


@dataclass(frozen=True)
class EmbedOptions:
    """How texts are embedded; None for what the checkpoint says. `pooling` "none" gives a vector for each token."""

    pooling: str | None = None
    normalize: bool | None = None
    dimensions: int | None = None
    truncate: bool = False


@dataclass(frozen=True)
class Embedded:
    """Vectors of one text, shape [1 or tokens, dimensions]."""

    vectors: FloatArray
    tokens: int


class EmbedLogic:
    """Vectors of texts."""

    def __init__(self, batches: TextBatches) -> None:
        self._batches = batches

    async def embed(
        self, model_name: str, texts: Sequence[str], options: EmbedOptions
    ) -> tuple[list[Embedded | NaiadError], Timings]:
        """Vectors of each text, or why it has none. Raises NaiadError."""
        batches = self._batches
        with batches.admission.request():
            model = await batches.models.get(model_name, Task.EMBED)
            entry = model.entry
            check_items(texts, "texts")
            dimensions = options.dimensions if options.dimensions is not None else entry.hidden_size
            if not 1 <= dimensions <= entry.hidden_size:
                raise invalid_field("dimensions", f"{dimensions} is not from 1 to {entry.hidden_size}")
            tokenized = await batches.tokenize(model, texts, "texts", options.truncate)
            good = tokenized.good
            per_token = options.pooling == NO_POOLING
            vector_count = tokenized.tokens if per_token else len(good)
            vector_bytes = ITEM_BYTES + dimensions * _FLOAT_BYTES
            batches.check_response_size(len(texts) * ITEM_BYTES + vector_count * vector_bytes, "texts")
            job = EncoderJob(
                output=HIDDEN_STATES if per_token else EMBEDDINGS,
                width=entry.hidden_size,
                pooling=None if per_token else options.pooling,
            )
            answer = await batches.run(entry, good, job)
            # What the checkpoint says of normalizing is about pooled vectors.
            normalize = options.normalize if options.normalize is not None else entry.normalize and not per_token
            shaped = shape_rows(answer.rows, dimensions, normalize)
            embedded = (Embedded(vectors, len(text)) for vectors, text in zip(shaped, good, strict=True))
            return tokenized.fill(embedded), tokenized.timings(answer)
