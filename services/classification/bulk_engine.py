"""What a bulk stream asks of tokenizer and engine: it waits for room where a single call would be refused."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from services.classification.classify_logic import ClassifyOptions, Scored, score_readings, scored_bytes
from services.classification.encoder_client import LOGITS, EncoderJob
from services.classification.long_texts import Reading, read_in_windows, read_whole
from services.classification.pack_queue import EncoderAnswer
from services.classification.text_batches import ITEM_BYTES, Item, TextBatches, check_length, run_noted, size_error
from services.common.bounds import MAX_ID_BYTES
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.text_models import TextModel
from services.common.tokenizer import Encoded

MESSAGE_BYTES = 256 * 1024
FIRST_RETRY_S = 0.05
MAX_RETRY_S = 1.0
# A queue that is full for longer than this is an overload that the client shall know of.
MAX_RETRIES_S = 30.0


@dataclass(frozen=True)
class BulkEngine:
    """Tokenizes and classifies the items of one stream. `pack_tokens` is what the engine gets at once, at most."""

    batches: TextBatches
    model: TextModel
    options: ClassifyOptions
    max_engine_tokens: int

    @property
    def answers_a_message(self) -> int:
        """How many answers go into one message, so that it stays well below what clients accept."""
        return max(1, MESSAGE_BYTES // (scored_bytes(self.model.entry.labels) + ITEM_BYTES + MAX_ID_BYTES))

    async def prepare(self, contents: Sequence[Item | NaiadError]) -> list[Reading | NaiadError]:
        """How each item is read, or why it cannot be."""
        checked = [_check(content) for content in contents]
        limit = self.model.entry.context_length_tokens if self.options.truncate else None
        texts = [content for content in checked if isinstance(content, str)]
        pairs = [content for content in checked if isinstance(content, tuple)]

        def encode() -> tuple[list[Encoded], list[Encoded]]:
            tokenizer = self.model.tokenizer
            return tokenizer.encode(texts, max_length=limit), tokenizer.encode_pairs(pairs, limit)

        size = sum(map(len, texts)) + sum(len(first) + len(second) for first, second in pairs)
        encoded_texts, encoded_pairs = map(iter, await self.batches.models.run_when_free(size, encode))
        readings: list[Reading | NaiadError] = []
        for content in checked:
            if isinstance(content, NaiadError):
                readings.append(content)
            elif isinstance(content, str):
                readings.append(self._read(next(encoded_texts), "text"))
            else:
                readings.append(self._read(next(encoded_pairs), "pair"))
        tokens = sum(reading.tokens for reading in readings if isinstance(reading, Reading))
        self.batches.models.count_tokens(self.model, tokens)
        return readings

    def _read(self, encoded: Encoded, field: str) -> Reading | NaiadError:
        limit, overlap = self.model.entry.context_length_tokens, self.options.window_overlap_tokens
        if overlap is not None and field == "pair":
            return invalid_field(field, "pairs cannot be read in windows")
        checked = check_length(encoded, limit if overlap is None else sys.maxsize, field)
        if isinstance(checked, NaiadError):
            return checked
        return read_whole(checked) if overlap is None else read_in_windows(checked, limit, overlap)

    async def classify(self, readings: Sequence[Reading]) -> list[Scored | NaiadError]:
        """Scores of each item. Raises NaiadError when the engine cannot go on."""
        if not readings:
            return []
        try:
            answer = await self._run(readings)
        except NaiadError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            if len(readings) == 1:
                return [error]
            # One of them is not to the engine's liking; alone, each answers for itself.
            return [outcome for reading in readings for outcome in await self.classify([reading])]
        return [*score_readings(self.model.entry, readings, answer, self.options)]

    async def _run(self, readings: Sequence[Reading]) -> EncoderAnswer:
        entry = self.model.entry
        runs = [run for reading in readings for run in reading.runs]
        job = EncoderJob(LOGITS, len(entry.labels))
        cost = min(sum(map(len, runs)), self.max_engine_tokens)
        loop = asyncio.get_running_loop()
        begun_s, wait_s = loop.time(), FIRST_RETRY_S
        while True:
            try:
                async with self.batches.admission.bulk_cost(cost):
                    return await run_noted(self.batches.client, entry, runs, job)
            except NaiadError as error:
                if error.reason is not Reason.OVERLOADED or loop.time() - begun_s > MAX_RETRIES_S:
                    raise
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, MAX_RETRY_S)


def _check(content: Item | NaiadError) -> Item | NaiadError:
    if isinstance(content, NaiadError):
        return content
    return size_error(content, "text" if isinstance(content, str) else "pair") or content
