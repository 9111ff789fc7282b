"""What comes back from the engine for one request; free of gRPC, so that logic can read it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

ParameterValue = bool | int | float | str
Array = npt.NDArray[Any]

FINISH_REASON = "finish_reason"
SEQUENCE_INDEX = "sequence_index"
NUM_SEQUENCES = "num_return_sequences"


@dataclass(frozen=True)
class InferReply:
    """One response: tensors by name (read-only views), parameters by name, and whether it is the request's last."""

    outputs: Mapping[str, Array]
    parameters: Mapping[str, ParameterValue]
    final: bool

    def int_parameter(self, name: str) -> int:
        """An integer parameter; 0 when it is absent."""
        return int(self.parameters.get(name, 0))


_INT64_BITS = 64


def signed_bits(value: int) -> int:
    """The bits of an unsigned 64-bit number as a signed one, which is what a parameter carries."""
    return value - (1 << _INT64_BITS) if value >= 1 << (_INT64_BITS - 1) else value
