"""ClassifyStream, free of gRPC."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from services.classification.bulk import BulkItem, BulkLimits, BulkStream, Write
from services.classification.bulk_engine import BulkEngine
from services.classification.classify_logic import ClassifyOptions, check_top_k, check_windows, scored_bytes
from services.classification.text_batches import TextBatches
from services.common.call import current_call
from services.common.registry import Task


class BulkLogic:
    """Classifies streams of texts and pairs."""

    def __init__(self, batches: TextBatches, limits: BulkLimits, stopping: asyncio.Event) -> None:
        """`stopping` is set when the service shuts down."""
        self._batches = batches
        self._limits = limits
        self._stopping = stopping

    async def classify_stream(
        self, model_name: str, options: ClassifyOptions, portions: AsyncIterator[Sequence[BulkItem]], write: Write
    ) -> None:
        """Answers the items of `portions` in order. One stream counts as one request. Raises NaiadError."""
        with self._batches.admission.request():
            model = await self._batches.models.get(model_name, Task.CLASSIFY)
            check_top_k(options.top_k, "options.top_k")
            check_windows(model, options, "options.window_overlap_tokens")
            self._batches.check_response_size(scored_bytes(model.entry.labels), "options.model")
            engine_tokens = self._limits.pack_tokens * self._limits.parallel_packs
            stream = BulkStream(BulkEngine(self._batches, model, options, engine_tokens), self._limits, self._stopping)
            try:
                await stream.run(portions, write)
            finally:
                current_call().log_fields.update(texts=stream.items_read)
