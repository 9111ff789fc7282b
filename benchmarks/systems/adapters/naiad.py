"""naiad: through its gRPC services as a client would ask them, or straight to Triton without them.

Guessing ahead is off (`max_draft_tokens` 0), so that every step makes one token a stream, as in every other system.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
from naiad.v1 import generation_pb2, generation_pb2_grpc

from benchmarks.systems.adapters.clock import RunClock
from benchmarks.systems.protocol import About, Answer, Request
from services.common.errors import NaiadError
from services.common.settings import GenerationSettings
from services.common.triton_client import TritonChannel, TritonStream
from tests.support.models import demo_model, linked_models
from tests.support.stack import running_stack
from tests.support.triton import run_triton

CALL_TIMEOUT_S = 300


class NaiadClient(Protocol):
    """How the engine is reached."""

    async def generate(self, request: Request, clock: RunClock, *, reuse_prefix: bool) -> Answer:
        """One continuation."""

    async def close(self) -> None:
        """Ends the connection."""


class ServiceClient:
    """Through the generation service, one call a request, all on one channel."""

    def __init__(self, address: str, model: str) -> None:
        self._model = model
        self._channel = grpc.aio.insecure_channel(address)
        self._stub = generation_pb2_grpc.GenerationServiceStub(self._channel)

    async def generate(self, request: Request, clock: RunClock, *, reuse_prefix: bool) -> Answer:
        """One continuation; an error status ends it."""
        call = generation_pb2.GenerateStreamRequest(model=self._model, use_prefix_cache=reuse_prefix)
        call.token_ids.ids.extend(request.prompt)
        call.sampling.temperature = 0
        call.stopping.max_tokens, call.stopping.ignore_eos = request.new_tokens, True
        call.response.return_token_ids = True
        answer = Answer()
        try:
            async for event in self._stub.GenerateStream(call, timeout=CALL_TIMEOUT_S):
                if event.HasField("delta") and event.delta.token_ids:
                    answer.add(event.delta.token_ids, clock.now_s())
        except grpc.aio.AioRpcError as error:
            answer.error = f"{error.code().name}: {error.details()}"
        return answer

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


class EngineClient:
    """Straight to Triton over the generation service's own client: one stream, the new tokens of a step together."""

    def __init__(self, address: str, model: str) -> None:
        self._model = model
        self._channel = TritonChannel(address, retry_after_ms=0)
        self._stream = TritonStream(self._channel, GenerationSettings().max_buffered_responses)

    async def open(self) -> None:
        """Opens the stream; requests can be sent afterwards."""
        self._stream.start()
        await asyncio.sleep(0)  # Lets its task begin.
        assert self._stream.is_open

    async def generate(self, request: Request, clock: RunClock, *, reuse_prefix: bool) -> Answer:
        """One continuation."""
        answer = Answer()
        parameters = {
            "request_output_len": request.new_tokens, "ignore_eos": True, "use_prefix_cache": reuse_prefix
        }  # fmt: skip
        try:
            asked = self._stream.submit(self._model, {"input_ids": np.array(request.prompt, np.int32)}, parameters)
            async with asyncio.timeout(CALL_TIMEOUT_S):
                final = False
                while not final:
                    replies = await asked.next_replies()
                    when_s = clock.now_s()
                    for reply in replies:
                        answer.add(reply.token_ids, when_s)
                    final = replies[-1].final
        except (NaiadError, TimeoutError) as error:
            answer.error = str(error) or "no answer"
        return answer

    async def close(self) -> None:
        """Half-closes the stream and waits for its end."""
        await self._stream.close()
        await self._channel.close()


async def serve(client: NaiadClient, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
    """Sends each request at its time; returns the answers in the order of the requests."""
    clock = RunClock()

    async def one(request: Request) -> Answer:
        await asyncio.sleep(max(0.0, request.arrival_s - clock.now_s()))
        return await client.generate(request, clock, reuse_prefix=reuse_prefix)

    return await asyncio.gather(*(one(request) for request in requests))


class Naiad:
    """The adapter. `options`: `decoder`, the model; `path`, "service" or "engine"; `kv_cache_bytes`."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._runner = asyncio.Runner()
        self._client: NaiadClient | None = None

    def load(self, options: dict[str, Any]) -> About:
        """Starts the whole system, or Triton alone, on a copy of the model."""
        decoder = options["decoder"]
        variant = {"max_draft_tokens": "0", "kv_cache_bytes": str(options["kv_cache_bytes"])}
        repository = self._open.enter_context(linked_models({decoder: variant}, source=demo_model(decoder)))
        if options["path"] == "service":
            folder = Path(self._open.enter_context(tempfile.TemporaryDirectory()))
            stack = self._open.enter_context(running_stack(repository, folder))
            self._client = self._runner.run(self._over_service(stack.address("generation"), decoder))
        else:
            server = self._open.enter_context(run_triton(repository))
            self._client = self._runner.run(self._over_triton(server.grpc_address, decoder))
        return _about(demo_model(decoder), options)

    @staticmethod
    async def _over_service(address: str, model: str) -> NaiadClient:
        return ServiceClient(address, model)

    @staticmethod
    async def _over_triton(address: str, model: str) -> NaiadClient:
        client = EngineClient(address, model)
        await client.open()
        return client

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """All requests from one event loop."""
        assert self._client is not None
        return self._runner.run(serve(self._client, requests, reuse_prefix=reuse_prefix))

    def close(self) -> None:
        """Ends the connection and the system."""
        if self._client is not None:
            self._runner.run(self._client.close())
        self._runner.close()
        self._open.close()


def _about(entry: Path, options: dict[str, Any]) -> About:
    manifest = json.loads((entry / "naiad.json").read_text())
    return About(
        {"naiad": version("naiad"), "onnxruntime": version("onnxruntime")},
        weights=manifest["precision"],
        weight_bytes=_bytes_read_a_token(entry / "1" / "model.onnx"),
        kv_cache=manifest["decoder"].get("kv_cache_type", "float").replace("float", "fp32"),
        settings=f"guessing ahead off, KV pool of {options['kv_cache_bytes'] >> 20} MiB; " + _PATHS[options["path"]],
    )


def _bytes_read_a_token(graph_file: Path) -> int:
    """Of all weights but those of which only a token's own row is read."""
    import onnx

    graph = onnx.load(graph_file, load_external_data=False).graph
    read = {name for node in graph.node for name in (node.input[1:] if node.op_type == "Gather" else node.input)}
    return sum(
        math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        for tensor in graph.initializer
        if tensor.name in read
    )


_PATHS = {"service": "through the generation service over gRPC", "engine": "straight to Triton over gRPC"}


def create() -> Naiad:
    """The adapter."""
    return Naiad()
