"""What all encoders of the comparison share: settings that are tried, texts one by one, padded batches.

Runs in the environments of the peers, which have tokenizers and numpy.
"""

from __future__ import annotations

import concurrent.futures
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from benchmarks.systems.protocol import About, Embedded, EmbedRequest, Unsupported

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
TOKEN_LIMIT = 256


@dataclass(frozen=True)
class Setting:
    """How texts that come together are computed."""

    batch: int  # Texts in a batch.
    parallel: int = 1  # Batches at the same time, which share the threads.

    def __str__(self) -> str:
        at_once = f", {self.parallel} at a time" if self.parallel > 1 else ""
        return f"batches of {self.batch}{at_once}"


# A batch of one has no padding, large ones use the caches best: which wins depends on the system and the order.
SETTINGS = (Setting(1, 2), Setting(8), Setting(8, 2), Setting(32), Setting(32, 2))


class TextEncoder(ABC):
    """An adapter: what is measured, for any system."""

    settings: tuple[Setting, ...] = SETTINGS

    def __init__(self) -> None:
        self._chosen: dict[bool, Setting] = {}

    @abstractmethod
    def load(self, options: dict[str, Any]) -> About:
        """Makes it ready to serve. Raises whatever its library raises."""

    @abstractmethod
    def together(self, texts: Sequence[str], setting: Setting) -> Any:
        """Whatever holds the vectors of all texts, in the order given."""

    @abstractmethod
    def alone(self, text: str) -> Any:
        """The same of one text."""

    def prepare(self, texts: Sequence[str]) -> None:  # noqa: B027 - most have nothing to prepare
        """What is not timed, of texts that come next."""

    def rows(self, answer: Any) -> FloatArray:
        """Vectors of what `together` returned: [texts, hidden size]."""
        vectors: FloatArray = answer
        return vectors

    def closed_loop(self, texts: Sequence[str], clients: int) -> list[float]:
        """Latencies, in seconds, of texts that so many clients send one by one. Raises Unsupported."""
        if clients > 1:
            raise Unsupported("a library answers one caller at a time: nothing brings texts of several together")
        latencies_s = []
        for text in texts:
            begun = time.perf_counter()
            self.alone(text)
            latencies_s.append(time.perf_counter() - begun)
        return latencies_s

    def tune(self, texts: Sequence[str], *, by_length: bool) -> str:
        """Runs every setting once; the fastest is used for this order from now on."""
        seconds = {setting: self._seconds(texts, setting) for setting in self.settings}
        self._chosen[by_length] = min(seconds, key=seconds.__getitem__)
        return str(self._chosen[by_length])

    def _seconds(self, texts: Sequence[str], setting: Setting) -> float:
        self.prepare(texts)
        self.together(texts[: setting.batch], setting)
        begun = time.perf_counter()
        self.together(texts, setting)
        return time.perf_counter() - begun

    def embed(self, request: EmbedRequest) -> Embedded:
        """All together, or one by one."""
        self.prepare(request.texts)
        begun = time.perf_counter()
        if request.clients:
            latencies_s = self.closed_loop(request.texts, request.clients)
            return Embedded(time.perf_counter() - begun, latencies_s)
        answer = self.together(request.texts, self._chosen.get(request.by_length, self.settings[0]))
        seconds = time.perf_counter() - begun
        return Embedded(seconds, vectors=self.rows(answer).tolist() if request.keep_vectors else [])

    def close(self) -> None:  # noqa: B027 - a library runs nothing between calls
        """Ends what runs between calls."""


class BatchEncoder(TextEncoder):
    """An adapter of a library that computes hidden vectors of padded batches; the rest is done here."""

    def __init__(self) -> None:
        super().__init__()
        self._tokenizer: Tokenizer | None = None
        self._threads: dict[int, concurrent.futures.ThreadPoolExecutor] = {}

    @abstractmethod
    def hidden(self, ids: IntArray, mask: IntArray, parallel: int) -> FloatArray:
        """Hidden vectors [texts, tokens, hidden size] of padded texts; called from `parallel` threads at once."""

    def read_tokenizer(self, checkpoint: str) -> None:
        """Of the checkpoint's folder."""
        self._tokenizer = Tokenizer.from_file(f"{checkpoint}/tokenizer.json")
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(TOKEN_LIMIT)

    def together(self, texts: Sequence[str], setting: Setting) -> FloatArray:
        """In batches of neighbours."""
        assert self._tokenizer is not None
        encodings = self._tokenizer.encode_batch(list(texts))
        batches = neighbours(encodings, setting.batch)

        def run(batch: Sequence[Encoding]) -> FloatArray:
            return self._vectors(batch, setting.parallel)

        if setting.parallel == 1:
            return np.concatenate([run(batch) for batch in batches])
        if setting.parallel not in self._threads:
            self._threads[setting.parallel] = concurrent.futures.ThreadPoolExecutor(setting.parallel)
        return np.concatenate(list(self._threads[setting.parallel].map(run, batches)))

    def alone(self, text: str) -> FloatArray:
        """With all threads."""
        assert self._tokenizer is not None
        return self._vectors([self._tokenizer.encode(text)], 1)

    def _vectors(self, batch: Sequence[Encoding], parallel: int) -> FloatArray:
        ids, mask = padded([encoding.ids for encoding in batch])
        return mean_vectors(self.hidden(ids, mask, parallel), mask)


def neighbours(items: Sequence[Any], count: int) -> list[Sequence[Any]]:
    """The items in their order, `count` at a time."""
    return [items[start : start + count] for start in range(0, len(items), count)]


def padded(sequences: Sequence[Sequence[int]]) -> tuple[IntArray, IntArray]:
    """Ids and mask, both [texts, tokens of the longest]; 0 where a text has no token."""
    width = max(map(len, sequences))
    ids, mask = (np.zeros((len(sequences), width), np.int64) for _ in range(2))
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = 1
    return ids, mask


def mean_vectors(hidden: FloatArray, mask: IntArray) -> FloatArray:
    """Means over the tokens of each text, [texts, hidden size], scaled to length 1."""
    weights = mask.astype(np.float32)
    sums = np.matmul(weights[:, np.newaxis, :], hidden)[:, 0, :]  # Their direction is that of the means.
    vectors: FloatArray = sums / np.linalg.norm(sums, axis=1, keepdims=True)
    return vectors
