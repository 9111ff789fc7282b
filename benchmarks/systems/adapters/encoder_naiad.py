"""naiad's encoder: through the classification service as a client would ask it, or straight to Triton without it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Coroutine, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
import numpy as np
from naiad.v1 import classification_pb2, classification_pb2_grpc
from tokenizers import Tokenizer
from tritonclient.grpc import service_pb2_grpc

from benchmarks.systems.adapters.encoder_batches import FloatArray, Setting, TextEncoder, neighbours
from benchmarks.systems.protocol import About
from services.common.triton_messages import infer_request, read_reply
from tests.support.models import linked_models
from tests.support.stack import running_stack
from tests.support.triton import run_triton

CALL_TIMEOUT_S = 300
MOST_MESSAGE_BYTES = 64 << 20
# Texts a call and calls in flight. The first is what a simple client does with its whole list.
SETTINGS = (Setting(2_048), Setting(256, 4), Setting(64, 8))
T = TypeVar("T")


async def in_flight(calls: Sequence[Coroutine[Any, Any, T]], count: int) -> list[T]:
    """Awaits all calls, `count` of them at a time, begun in order; returns what they returned, in order."""
    results: list[Any] = [None] * len(calls)
    waiting = iter(enumerate(calls))

    async def work() -> None:
        for index, call in waiting:
            results[index] = await call

    await asyncio.gather(*(work() for _ in range(count)))
    return results


class Embedder(Protocol):
    """How the encoder is reached."""

    def prepare(self, texts: Sequence[str]) -> None:
        """Does what is not timed."""

    async def embed(self, texts: Sequence[str]) -> Any:
        """One call; the answer as it came. Raises RuntimeError if a text has no vector."""

    def vectors(self, answer: Any) -> FloatArray:
        """Of one answer: [texts, hidden size]."""


class ServiceEmbedder:
    """Through the classification service, all calls on one channel."""

    def __init__(self, channel: grpc.aio.Channel, model: str) -> None:
        self._model = model
        self._stub = classification_pb2_grpc.ClassificationServiceStub(channel)

    def prepare(self, texts: Sequence[str]) -> None:
        """Nothing: the service is given text."""

    async def embed(self, texts: Sequence[str]) -> Any:
        """One call."""
        request = classification_pb2.EmbedRequest(model=self._model, texts=texts)
        answer = await self._stub.Embed(request, timeout=CALL_TIMEOUT_S)
        for result in answer.results:
            if not result.HasField("embedding"):
                raise RuntimeError(result.error.message)
        return answer

    def vectors(self, answer: Any) -> FloatArray:
        """Of each text."""
        return np.array([result.embedding.vectors[0].values for result in answer.results], np.float32)


class TritonEmbedder:
    """Straight to Triton with token ids that were made before the clock started."""

    def __init__(self, channel: grpc.aio.Channel, model: str, tokenizer: Tokenizer, *, with_types: bool) -> None:
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        self._model = model
        self._tokenizer = tokenizer
        self._with_types = with_types
        self._ids: dict[str, list[int]] = {}

    def prepare(self, texts: Sequence[str]) -> None:
        """Tokenizes."""
        self._ids = {
            text: encoding.ids for text, encoding in zip(texts, self._tokenizer.encode_batch(list(texts)), strict=True)
        }

    async def embed(self, texts: Sequence[str]) -> Any:
        """One packed request."""
        rows = [self._ids[text] for text in texts]
        inputs = {
            "input_ids": np.fromiter((token for row in rows for token in row), np.int32),
            "sequence_lengths": np.array([len(row) for row in rows], np.int32),
        }
        if self._with_types:
            inputs["token_type_ids"] = np.zeros_like(inputs["input_ids"])
        request = infer_request(self._model, "", inputs, {}, ("embeddings",))
        return await self._stub.ModelInfer(request, timeout=CALL_TIMEOUT_S)

    def vectors(self, answer: Any) -> FloatArray:
        """Of each text, of any length: cosines do not depend on it."""
        vectors: FloatArray = read_reply(answer).outputs["embeddings"]
        return vectors


class NaiadEncoder(TextEncoder):
    """The adapter. `options`: `entry`, the folder of the model; `path`, "service" or "engine"."""

    settings = SETTINGS

    def __init__(self) -> None:
        super().__init__()
        self._open = contextlib.ExitStack()
        self._runner = asyncio.Runner()
        self._embedder: Embedder | None = None

    def load(self, options: dict[str, Any]) -> About:
        """Starts the whole system, or Triton alone, on a copy of the model."""
        entry = Path(options["entry"])
        manifest = json.loads((entry / "naiad.json").read_text())
        repository = self._open.enter_context(linked_models({entry.name: {}}, source=entry))
        if options["path"] == "service":
            folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            stack = self._open.enter_context(running_stack(repository, folder))
            self._embedder = ServiceEmbedder(self._channel(stack.address("classification")), entry.name)
        else:
            server = self._open.enter_context(run_triton(repository))
            tokenizer = Tokenizer.from_file(str(entry / manifest["files"]["tokenizer"]["path"]))
            tokenizer.no_padding()
            with_types = manifest["encoder"]["uses_token_type_ids"]
            self._embedder = TritonEmbedder(
                self._channel(server.grpc_address), entry.name, tokenizer, with_types=with_types
            )
        graph_bytes = sum(file.stat().st_size for file in (entry / "1").iterdir())
        versions = {"naiad": version("naiad"), "onnxruntime": version("onnxruntime")}
        return About(versions, manifest["precision"], graph_bytes, "", _PATHS[options["path"]])

    def _channel(self, address: str) -> grpc.aio.Channel:
        async def connect() -> grpc.aio.Channel:
            channel = grpc.aio.insecure_channel(
                address, options=[("grpc.max_receive_message_length", MOST_MESSAGE_BYTES)]
            )
            await channel.channel_ready()
            return channel

        channel = self._runner.run(connect())
        self._open.callback(lambda: self._runner.run(channel.close()))
        return channel

    def prepare(self, texts: Sequence[str]) -> None:
        """What the path needs."""
        self._reached.prepare(texts)

    def together(self, texts: Sequence[str], setting: Setting) -> list[Any]:
        """In calls of `batch` texts, `parallel` of them in flight: the answers as they came."""
        calls = [self._reached.embed(part) for part in neighbours(texts, setting.batch)]
        return self._runner.run(in_flight(calls, setting.parallel))

    def rows(self, answer: Any) -> FloatArray:
        """Of all calls."""
        return np.concatenate([self._reached.vectors(one) for one in answer])

    def alone(self, text: str) -> list[Any]:
        """A call of its own."""
        return self.together([text], Setting(1))

    def closed_loop(self, texts: Sequence[str], clients: int) -> list[float]:
        """From one event loop."""
        embedder = self._reached

        async def timed(text: str) -> float:
            begun = time.perf_counter()
            await embedder.embed([text])
            return time.perf_counter() - begun

        return self._runner.run(in_flight([timed(text) for text in texts], clients))

    @property
    def _reached(self) -> Embedder:
        assert self._embedder is not None
        return self._embedder

    def close(self) -> None:
        """Ends the connection and the system."""
        self._open.close()
        self._runner.close()


_PATHS = {
    "service": "text through the classification service over gRPC",
    "engine": "token ids, made before the clock started, straight to Triton over gRPC",
}


def create() -> NaiadEncoder:
    """The adapter."""
    return NaiadEncoder()
