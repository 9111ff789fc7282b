"""Requests to Triton that no honest client sends: each breaks a valid one in one to three ways."""

import random
from collections.abc import Callable
from typing import Any

from tritonclient.grpc import service_pb2

Request = service_pb2.ModelInferRequest
HARD_DIMENSIONS = (-(2**63), -1, 0, 1, 2, 2**31, 2**61, 2**62, 2**63 - 1)
DATATYPES = ("INT32", "FP32", "INT64", "BYTES", "BOOL", "UINT8", "FP16", "NOPE", "")
NAMES = ("", "input_ids", "no_such_tensor", "x" * 5_000, "input_ids\x00", "../input_ids", "日本")
NUMBERS = (-(2**63), -(2**31) - 1, -1, 0, 1, 2**31, 2**63 - 1)
REALS = (float("nan"), float("inf"), float("-inf"), -0.0, 1e308, 5e-324)
NAN_BYTES = b"\x00\x00\xc0\x7f"


def malformed(valid: Request, chance: random.Random) -> Request:
    """`valid`, broken."""
    request = Request()
    request.CopyFrom(valid)
    for _ in range(chance.randint(1, 3)):
        chance.choice(_WAYS)(request, chance)
    return request


def _tensor(request: Request, chance: random.Random) -> Any:
    return chance.choice(request.inputs) if request.inputs else request.inputs.add(name="input_ids", datatype="INT32")


def _shape(request: Request, chance: random.Random) -> None:
    del (tensor := _tensor(request, chance)).shape[:]
    tensor.shape.extend(chance.choices(HARD_DIMENSIONS, k=chance.choice((0, 1, 1, 1, 2, 40))))


def _shape_and_no_bytes(request: Request, chance: random.Random) -> None:
    """Sizes whose product is 0 in 64 bits."""
    if request.inputs and len(request.raw_input_contents) == len(request.inputs):
        index = chance.randrange(len(request.inputs))
        del request.inputs[index].shape[:]
        request.inputs[index].shape.append(chance.choice((0, 2**61, 2**62, -1)))
        request.raw_input_contents[index] = b""


def _datatype(request: Request, chance: random.Random) -> None:
    _tensor(request, chance).datatype = chance.choice(DATATYPES)


def _name(request: Request, chance: random.Random) -> None:
    _tensor(request, chance).name = chance.choice(NAMES)


def _raw_size(request: Request, chance: random.Random) -> None:
    if request.raw_input_contents:
        index = chance.randrange(len(request.raw_input_contents))
        raw = request.raw_input_contents[index]
        changed = (raw[:-1], raw[:-4], raw + b"\x00", raw * 1_000, b"", NAN_BYTES * (len(raw) // 4))
        request.raw_input_contents[index] = chance.choice(changed)


def _raw_count(request: Request, chance: random.Random) -> None:
    if request.raw_input_contents and chance.random() < 0.5:
        request.raw_input_contents.pop()
    else:
        request.raw_input_contents.append(b"\x01\x00\x00\x00")


def _bytes_length(request: Request, chance: random.Random) -> None:
    """A tensor of texts whose length prefix goes beyond the message."""
    if request.inputs and len(request.raw_input_contents) == len(request.inputs):
        index = chance.randrange(len(request.inputs))
        request.inputs[index].datatype = "BYTES"
        length = chance.choice((0, 1, 0x7FFFFFFF, 0xFFFFFFFF))
        request.raw_input_contents[index] = length.to_bytes(4, "little") + b"abc"


def _typed_contents(request: Request, chance: random.Random) -> None:
    contents = _tensor(request, chance).contents
    contents.int_contents.extend([1] * chance.choice((1, 3, 10_000)))
    contents.bytes_contents.append(b"x")


def _duplicate_input(request: Request, chance: random.Random) -> None:
    if request.inputs:
        request.inputs.add().CopyFrom(chance.choice(request.inputs))
        if request.raw_input_contents:
            request.raw_input_contents.append(chance.choice(request.raw_input_contents))


def _outputs(request: Request, chance: random.Random) -> None:
    names = [output.name for output in request.outputs] or ["output_ids"]
    for name in chance.choices((*names, *names, *NAMES), k=chance.choice((1, 2, 50))):
        request.outputs.add(name=name)


def _parameter(request: Request, chance: random.Random) -> None:
    names = (*request.parameters, "request_output_len", "seed", "pooling", "delta_key", "no_such", "x" * 5_000)
    parameter = request.parameters[chance.choice(names)]
    kind = chance.randrange(4)
    if kind == 0:
        parameter.int64_param = chance.choice(NUMBERS)
    elif kind == 1:
        parameter.double_param = chance.choice(REALS)
    elif kind == 2:
        parameter.string_param = chance.choice(("", "x" * 100_000, "regex", "mean"))
    else:
        parameter.bool_param = True


_WAYS: tuple[Callable[[Request, random.Random], None], ...] = (
    _shape,
    _shape_and_no_bytes,
    _datatype,
    _name,
    _raw_size,
    _raw_count,
    _bytes_length,
    _typed_contents,
    _duplicate_input,
    _outputs,
    _parameter,
)
