"""A client of tritonserver for tests: one multiplexed stream, as the generation service uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2, service_pb2_grpc

Parameter = bool | int | float | str
_DTYPES: dict[str, type[np.generic]] = {"INT32": np.int32, "FP32": np.float32}
_FIELDS = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def infer_request(
    model: str,
    request_id: str,
    inputs: Mapping[str, npt.NDArray[Any]],
    outputs: Sequence[str] = (),
    /,
    **parameters: Parameter,
) -> service_pb2.ModelInferRequest:
    """A request with raw tensors, int32 and float32 arrays only, that names its outputs unless it wants all."""
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    for name, array in inputs.items():
        datatype = next(key for key, dtype in _DTYPES.items() if array.dtype == dtype)
        request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    for output in outputs:
        request.outputs.add(name=output)
    for key, value in parameters.items():
        setattr(request.parameters[key], _FIELDS[type(value)], value)
    return request


def tensors_of(response: service_pb2.ModelInferResponse) -> dict[str, npt.NDArray[Any]]:
    """The output tensors of a response."""
    pairs = zip(response.outputs, response.raw_output_contents, strict=True)
    return {tensor.name: np.frombuffer(raw, _DTYPES[tensor.datatype]).reshape(tensor.shape) for tensor, raw in pairs}


def parameters_of(response: service_pb2.ModelInferResponse) -> dict[str, Parameter]:
    """The parameters of a response."""
    return {key: getattr(value, value.WhichOneof("parameter_choice")) for key, value in response.parameters.items()}


@dataclass
class Generation:
    """All responses to one request, or to one of its sequences."""

    tokens: list[int] = field(default_factory=list)
    tensors: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)
    final: dict[str, Parameter] = field(default_factory=dict)
    error_message: str = ""

    @property
    def finish_reason(self) -> Parameter | None:
        """How the request ended."""
        return self.final.get("finish_reason")

    def number(self, name: str) -> int:
        """One of the counts and times of the last response."""
        return int(self.final[name])

    def add(self, message: service_pb2.ModelStreamInferResponse) -> None:
        """Appends one response."""
        parameters = parameters_of(message.infer_response)
        tensors = tensors_of(message.infer_response)
        if "output_ids" in tensors:
            self.tokens += [int(token) for token in tensors["output_ids"]]
        self.tensors.append(tensors)
        if message.error_message or "finish_reason" in parameters or parameters.get("triton_final_response"):
            self.final = parameters
            self.error_message = message.error_message

    def joined(self, name: str) -> npt.NDArray[Any]:
        """One tensor over all responses."""
        return np.concatenate([tensors[name] for tensors in self.tensors if name in tensors])


class InferStream:
    """One ModelStreamInfer call. Answers are told apart by request id, in the order in which they come."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._queues: dict[str, asyncio.Queue[service_pb2.ModelStreamInferResponse]] = {}

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self._address)
        self._call = service_pb2_grpc.GRPCInferenceServiceStub(self._channel).ModelStreamInfer()
        self._reader = asyncio.create_task(self._read())
        self._write_lock = asyncio.Lock()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Half-close and wait for the server's end: cancelled streams can crash this Triton.
        await self._call.done_writing()
        await asyncio.wait_for(self._reader, 30)
        await self._channel.close()

    async def _read(self) -> None:
        while (message := await self._call.read()) is not grpc.aio.EOF:
            self._queue(message.infer_response.id).put_nowait(message)

    def _queue(self, request_id: str) -> asyncio.Queue[service_pb2.ModelStreamInferResponse]:
        return self._queues.setdefault(request_id, asyncio.Queue())

    async def send(self, request: service_pb2.ModelInferRequest) -> None:
        """Writes one request."""
        # grpc.aio takes one write at a time.
        async with self._write_lock:
            await self._call.write(request)

    async def next_response(self, request_id: str, timeout_s: float = 30) -> service_pb2.ModelStreamInferResponse:
        """The next response with this id."""
        return await asyncio.wait_for(self._queue(request_id).get(), timeout_s)

    def put_back(self, message: service_pb2.ModelStreamInferResponse) -> None:
        """Makes a response that was read the next one again."""
        queue = self._queue(message.infer_response.id)
        later = [queue.get_nowait() for _ in range(queue.qsize())]
        for each in (message, *later):
            queue.put_nowait(each)

    def forget(self, request_id: str) -> None:
        """Drops what is kept for an id whose request has ended."""
        self._queues.pop(request_id, None)

    async def sequences(self, request_id: str, timeout_s: float = 30) -> dict[int, Generation]:
        """Reads the responses with this id to the end; what belongs to each `sequence_index`."""
        by_index: dict[int, Generation] = {}
        while True:
            message = await self.next_response(request_id, timeout_s)
            parameters = parameters_of(message.infer_response)
            by_index.setdefault(int(parameters.get("sequence_index", 0)), Generation()).add(message)
            if message.error_message or parameters.get("triton_final_response"):
                return by_index

    async def rest(self, request_id: str, timeout_s: float = 30) -> Generation:
        """Reads the responses with this id, of a request for one sequence, to the end."""
        return (await self.sequences(request_id, timeout_s))[0]

    async def generate(
        self, model: str, request_id: str, prompt: Sequence[int], max_tokens: int, **parameters: Parameter
    ) -> Generation:
        """One generation from request to end."""
        await self.send(generate_request(model, request_id, prompt, max_tokens, **parameters))
        return await self.rest(request_id)

    async def generate_many(
        self, model: str, request_id: str, prompt: Sequence[int], max_tokens: int, **parameters: Parameter
    ) -> list[Generation]:
        """All `num_return_sequences` continuations of one prompt, in order."""
        await self.send(generate_request(model, request_id, prompt, max_tokens, **parameters))
        by_index = await self.sequences(request_id)
        return [by_index[index] for index in sorted(by_index)]


def generate_request(
    model: str, request_id: str, prompt: Sequence[int], max_tokens: int, **parameters: Parameter
) -> service_pb2.ModelInferRequest:
    """A request of task "generate"."""
    inputs = {"input_ids": np.asarray(prompt, np.int32)}
    return infer_request(model, request_id, inputs, request_output_len=max_tokens, **parameters)


def stop_message(model: str, request_id: str, **parameters: Parameter) -> service_pb2.ModelInferRequest:
    """The message that ends a live request, or with `sequence_index` one of its sequences."""
    return infer_request(model, request_id, {}, stop=True, **parameters)
