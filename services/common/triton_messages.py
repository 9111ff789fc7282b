"""Triton's infer messages: build requests from numpy arrays, read tensors and parameters from responses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tritonclient.grpc import service_pb2

from services.common.infer_reply import (
    COMPLETION_TOKENS,
    DELTA_COUNT,
    FINISH_REASON,
    SEQUENCE_INDEX,
    Array,
    InferReply,
    ParameterValue,
)

_DATATYPES: dict[str, np.dtype[Any]] = {"INT32": np.dtype("<i4"), "INT64": np.dtype("<i8"), "FP32": np.dtype("<f4")}
_NAMES = {dtype: name for name, dtype in _DATATYPES.items()}
OUTPUT_IDS = "output_ids"
_DELTA_HEAD_LENGTH = 4  # key, sequence index, tokens before, tokens
_NOTHING: dict[str, Any] = {}


def infer_request(
    model: str,
    request_id: str,
    inputs: Mapping[str, Array],
    parameters: Mapping[str, ParameterValue],
    outputs: Sequence[str] = (),
) -> Any:
    """A ModelInferRequest. Arrays are int32, int64 or float32; no `outputs` asks for all."""
    request = service_pb2.ModelInferRequest(model_name=model, id=request_id)
    add_inputs(request, inputs)
    for name in outputs:
        request.outputs.add(name=name)
    add_parameters(request, parameters)
    return request


def add_inputs(request: Any, inputs: Mapping[str, Array]) -> None:
    """Puts tensors into a ModelInferRequest, behind those that it has."""
    for name, array in inputs.items():
        request.inputs.add(name=name, datatype=_NAMES[array.dtype], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())


def add_parameters(request: Any, parameters: Mapping[str, ParameterValue]) -> None:
    """Puts parameters into a ModelInferRequest."""
    for name, value in parameters.items():
        _set_parameter(request.parameters[name], value)


def _set_parameter(parameter: Any, value: ParameterValue) -> None:
    if isinstance(value, bool):  # before int: a bool is one
        parameter.bool_param = value
    elif isinstance(value, int):
        parameter.int64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def read_reply(response: Any) -> InferReply:
    """Tensors and parameters of a ModelInferResponse. Raises ValueError when a tensor contradicts its shape."""
    outputs: dict[str, Array] = {}
    for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True):
        dtype = _DATATYPES.get(tensor.datatype)
        if dtype is None:
            raise ValueError(f"output {tensor.name!r} has datatype {tensor.datatype!r}")
        outputs[tensor.name] = np.frombuffer(raw, dtype).reshape(tuple(tensor.shape))
    parameters: dict[str, ParameterValue] = {}
    for name, parameter in response.parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is not None:
            parameters[name] = getattr(parameter, kind)
    final = bool(parameters.pop("triton_final_response", False))
    reply = InferReply(outputs, parameters, final, int(parameters.get(SEQUENCE_INDEX, 0)))
    if OUTPUT_IDS in outputs:
        reply.token_ids = outputs[OUTPUT_IDS].tolist()
    if FINISH_REASON in parameters:
        reply.first_token = reply.int_parameter(COMPLETION_TOKENS) - len(reply.token_ids)
    return reply


def read_deltas(response: Any) -> Iterator[tuple[int, InferReply]]:
    """Keys of requests and the new tokens of one sequence of each, of a response with DELTA_COUNT.

    Raises ValueError when it contradicts itself.
    """
    count: int = response.parameters[DELTA_COUNT].int64_param
    numbers: list[int] = np.frombuffer(b"".join(response.raw_output_contents), _DATATYPES["INT32"]).tolist()
    begin = count * _DELTA_HEAD_LENGTH
    if begin + sum(numbers[3:begin:_DELTA_HEAD_LENGTH]) != len(numbers):
        raise ValueError(f"{count} deltas do not make {len(numbers)} numbers")
    for head in range(0, begin, _DELTA_HEAD_LENGTH):
        key, sequence_index, first_token, tokens = numbers[head : head + _DELTA_HEAD_LENGTH]
        end = begin + tokens
        yield key, InferReply(_NOTHING, _NOTHING, False, sequence_index, numbers[begin:end], first_token)
        begin = end
