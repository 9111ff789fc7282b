"""An in-process double of Triton's gRPC endpoint with scripted answers, for unit tests of the services."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

_DTYPES = {"INT32": np.int32, "FP32": np.float32}
_NAMES = {np.dtype(np.int32): "INT32", np.dtype(np.float32): "FP32"}


Delta = tuple[int, int, int, list[int]]  # key of the request, index of the sequence, tokens before, tokens


@dataclass
class Plan:
    """What the fake does with one sequence: sends `tokens` in chunks, then ends, or waits for a stop message."""

    tokens: list[int] = field(default_factory=list)
    chunk: int = 1
    finish_reason: str = "length"
    stop_token_id: int | None = None
    wait_for_stop: bool = False
    logprobs: list[float] | None = None
    error: tuple[str, str] | None = None  # error_code, error_message in the last response
    stream_error: str | None = None  # Triton's own error_message
    context_log_probs: list[float] | None = None
    parameters: dict[str, int] = field(default_factory=dict)


@dataclass
class SeenRequest:
    """One request as it arrived; `plan` gets it once for each of its sequences."""

    id: str
    model: str
    inputs: dict[str, list[Any]]
    parameters: dict[str, Any]
    sequence_index: int = 0

    @property
    def num_sequences(self) -> int:
        """How many sequences it asks for."""
        return int(self.parameters.get("num_return_sequences", 1))

    @property
    def resumed_tokens(self) -> int:
        """How many of the input tokens are new ones of an earlier run."""
        return int(self.parameters.get("resumed_tokens", 0))

    @property
    def options(self) -> dict[str, Any]:
        """The parameters without those that only say how to send the answer."""
        return {name: value for name, value in self.parameters.items() if not name.startswith("delta_")}

    @property
    def is_grouped(self) -> bool:
        """Whether its tokens come together with those of other requests."""
        return "delta_group" in self.parameters and not self.parameters.get("return_log_probs")


def tensors_of(request: Any) -> dict[str, list[Any]]:
    """Input tensors of a request as lists."""
    return {
        tensor.name: np.frombuffer(raw, _DTYPES[tensor.datatype]).reshape(tuple(tensor.shape)).tolist()
        for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
    }


def parameters_of(message: Any) -> dict[str, Any]:
    """Parameters of a message."""
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in message.parameters.items()}


def infer_response(
    request_id: str, tensors: dict[str, np.ndarray[Any, Any]], parameters: dict[str, Any], final: bool
) -> Any:
    """A ModelInferResponse as Triton would send it."""
    response = service_pb2.ModelInferResponse(id=request_id)
    for name, array in tensors.items():
        output = response.outputs.add(name=name, datatype=_NAMES[array.dtype])
        output.shape.extend(array.shape)
        response.raw_output_contents.append(array.tobytes())
    for name, value in parameters.items():
        kind = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}[type(value)]
        setattr(response.parameters[name], kind, value)
    response.parameters["triton_final_response"].bool_param = final
    return response


def deltas_response(carrier_id: str, deltas: Sequence[Delta]) -> Any:
    """One response with the new tokens of several requests."""
    heads = [number for key, index, first_token, tokens in deltas for number in (key, index, first_token, len(tokens))]
    numbers = np.array(heads + [token for *_, tokens in deltas for token in tokens], np.int32)
    response = infer_response(carrier_id, {"output_ids": numbers}, {"delta_count": len(deltas)}, final=False)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


class GroupedDeltas:
    """New tokens of many requests: those of one turn of the event loop make one response.

    It comes after what is sent at once, such as last responses, as may happen on a stream of Triton's.
    """

    def __init__(self, outbox: asyncio.Queue[Any]) -> None:
        self._outbox = outbox
        self._pending: list[tuple[SeenRequest, int, list[int]]] = []
        self._token_counts: dict[tuple[str, int], int] = {}

    def add(self, sequence: SeenRequest, tokens: list[int]) -> None:
        """Adds the tokens of one sequence."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._flush)
        name = (sequence.id, sequence.sequence_index)
        first_token = self._token_counts.get(name, sequence.resumed_tokens)
        self._pending.append((sequence, first_token, tokens))
        self._token_counts[name] = first_token + len(tokens)

    def _flush(self) -> None:
        deltas = [
            (sequence.parameters["delta_key"], sequence.sequence_index, first_token, tokens)
            for sequence, first_token, tokens in self._pending
        ]
        self._outbox.put_nowait(deltas_response(self._pending[0][0].id, deltas))
        self._pending.clear()


class FakeTriton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Serves on a free port of the loopback. `plan` decides what a sequence gets, `infer` what a unary call gets,
    unless `refuse` has a status for it.

    `stopped_ids` notes stop messages for whole requests, `stopped_sequences` those for one sequence.
    """

    def __init__(self) -> None:
        self.plan: Callable[[SeenRequest], Plan] = lambda _: Plan(tokens=[1])
        self.infer: Callable[[Any], Any] | None = None
        self.refuse: Callable[[Any], tuple[grpc.StatusCode, str] | None] = lambda _: None
        self.ready = True
        self.unloaded: set[str] = set()
        self.frozen = asyncio.Event()
        self.requests: list[SeenRequest] = []
        self.stopped_ids: list[str] = []
        self.stopped_sequences: list[tuple[str, int]] = []
        self.request_seen = asyncio.Event()
        self.stop_seen = asyncio.Event()
        self.streams_opened = 0
        self.stream_opened = asyncio.Event()  # to be cleared by who waits for the next one
        self.port = 0
        self._stops: dict[str, list[asyncio.Event]] = {}
        self._outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._deltas: dict[asyncio.Queue[Any], GroupedDeltas] = {}  # by the stream's outbox
        self._server: grpc.aio.Server | None = None

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Starts to serve; the second time on the same port."""
        self._server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    def send(self, response: Any) -> None:
        """Sends any response on the stream that was opened last."""
        self._outbox.put_nowait(response)

    async def die(self) -> None:
        """Ends at once, as if killed."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def ServerReady(self, request: Any, context: Any) -> Any:
        await self._freeze()
        return service_pb2.ServerReadyResponse(ready=self.ready)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        await self._freeze()
        return service_pb2.ModelReadyResponse(ready=self.ready and request.name not in self.unloaded)

    async def _freeze(self) -> None:
        if self.frozen.is_set():
            await asyncio.Event().wait()

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        assert self.infer is not None
        self.requests.append(self._seen(request))
        refusal = self.refuse(request)
        if refusal is not None:
            await context.abort(*refusal)
        answer = self.infer(request)
        return await answer if asyncio.iscoroutine(answer) else answer

    async def ModelStreamInfer(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        self.streams_opened += 1
        self.stream_opened.set()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        self._outbox = outbox
        tasks: set[asyncio.Task[None]] = set()

        async def read() -> None:
            async for request in request_iterator:
                seen = self._seen(request)
                if seen.parameters.get("stop"):
                    self._stop(seen, outbox)
                    continue
                self.requests.append(seen)
                self.request_seen.set()
                self._stops[seen.id] = [asyncio.Event() for _ in range(seen.num_sequences)]
                task = asyncio.create_task(self._generate(seen, outbox))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await outbox.put(None)

        reader = asyncio.create_task(read())
        try:
            while (response := await outbox.get()) is not None:
                yield response
        finally:
            for task in (reader, *tasks):
                task.cancel()

    def _stop(self, message: SeenRequest, outbox: asyncio.Queue[Any]) -> None:
        sequence = message.parameters.get("sequence_index")
        if sequence is None:
            self.stopped_ids.append(message.id)
        else:
            self.stopped_sequences.append((message.id, sequence))
        self.stop_seen.set()
        response = infer_response(message.id, {}, {}, final=True)
        outbox.put_nowait(service_pb2.ModelStreamInferResponse(infer_response=response))
        for index, stop in enumerate(self._stops.get(message.id, [])):
            if sequence in (None, index):
                stop.set()

    @staticmethod
    def _seen(request: Any) -> SeenRequest:
        return SeenRequest(request.id, request.model_name, tensors_of(request), parameters_of(request))

    async def _generate(self, seen: SeenRequest, outbox: asyncio.Queue[Any]) -> None:
        running = seen.num_sequences
        deltas = self._deltas.setdefault(outbox, GroupedDeltas(outbox))
        sequences = [replace(seen, sequence_index=index) for index in range(running)]
        plans = [self.plan(sequence) for sequence in sequences]
        if plans[0].stream_error is not None:
            failed = service_pb2.ModelStreamInferResponse(error_message=plans[0].stream_error)
            failed.infer_response.id = seen.id
            outbox.put_nowait(failed)
            return

        async def run(sequence: SeenRequest, plan: Plan) -> None:
            nonlocal running

            def send(tensors: dict[str, np.ndarray[Any, Any]], parameters: dict[str, Any], final: bool) -> None:
                if sequence.is_grouped and set(tensors) == {"output_ids"} and not parameters:
                    deltas.add(sequence, tensors["output_ids"].tolist())
                    return
                named = {"sequence_index": sequence.sequence_index, **parameters}
                response = infer_response(seen.id, tensors, named, final)
                outbox.put_nowait(service_pb2.ModelStreamInferResponse(infer_response=response))

            end = await self._run_sequence(sequence, plan, send)
            running -= 1
            send({"output_ids": np.empty(0, np.int32)}, end, running == 0)

        await asyncio.gather(*map(run, sequences, plans))
        self._stops.pop(seen.id, None)

    async def _run_sequence(self, seen: SeenRequest, plan: Plan, send: Callable[..., None]) -> dict[str, Any]:
        """Sends all but the last response, and gives the parameters of that one."""
        stop = self._stops[seen.id][seen.sequence_index]
        if plan.context_log_probs is not None:
            self._send_context(plan, seen, send)
        sent_tokens = 0
        for start in range(0, len(plan.tokens), plan.chunk):
            if stop.is_set():
                break
            tensors = self._token_tensors(plan, seen, start)
            send(tensors, {}, False)
            sent_tokens += len(tensors["output_ids"])
            await asyncio.sleep(0)
        if plan.wait_for_stop:
            await stop.wait()
        reason = "cancelled" if stop.is_set() else plan.finish_reason
        completion_tokens = seen.resumed_tokens + sent_tokens
        end: dict[str, Any] = {"finish_reason": reason, "completion_tokens": completion_tokens, **plan.parameters}
        if reason == "stop" and plan.stop_token_id is not None:
            end["stop_token_id"] = plan.stop_token_id
        if plan.error is not None:
            end.update(finish_reason="error", error_code=plan.error[0], error_message=plan.error[1])
        return end

    @staticmethod
    def _token_tensors(plan: Plan, seen: SeenRequest, start: int) -> dict[str, np.ndarray[Any, Any]]:
        tokens = plan.tokens[start : start + plan.chunk]
        tensors: dict[str, np.ndarray[Any, Any]] = {"output_ids": np.array(tokens, np.int32)}
        if seen.parameters.get("return_log_probs"):
            logprobs = plan.logprobs or [-0.5] * len(plan.tokens)
            tensors["output_log_probs"] = np.array(logprobs[start : start + plan.chunk], np.float32)
            top = seen.parameters.get("top_log_probs", 0)
            tensors["top_log_prob_ids"] = np.tile(np.arange(top, dtype=np.int32), (len(tokens), 1))
            tensors["top_log_prob_values"] = np.full((len(tokens), top), -1, np.float32)
        return tensors

    @staticmethod
    def _send_context(plan: Plan, seen: SeenRequest, send: Callable[..., None]) -> None:
        values = np.array(plan.context_log_probs, np.float32)
        top = seen.parameters.get("top_log_probs", 0)
        for part in np.array_split(values, 2):
            tensors = {"context_log_probs": part}
            if top:
                tensors["context_top_ids"] = np.tile(np.arange(top, dtype=np.int32), (len(part), 1))
                tensors["context_top_values"] = np.full((len(part), top), -2, np.float32)
            send(tensors, {}, False)
