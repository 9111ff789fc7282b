"""What comes back from the engine for one request; free of gRPC, so that logic can read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

ParameterValue = bool | int | float | str
Array = npt.NDArray[Any]

FINISH_REASON = "finish_reason"
SEQUENCE_INDEX = "sequence_index"
NUM_SEQUENCES = "num_return_sequences"
RESUMED_TOKENS = "resumed_tokens"
RESUMED_SEQUENCE = "resumed_sequence"
COMPLETION_TOKENS = "completion_tokens"
DELTA_GROUP = "delta_group"
DELTA_KEY = "delta_key"
DELTA_COUNT = "delta_count"
# A reply without its content, and an element of a list with its number.
REPLY_BYTES = 200
BYTES_A_TOKEN = 40


@dataclass(slots=True)
class InferReply:
    """One response, or one sequence's part of one: tensors by name (read-only views) and parameters by name.

    Of a generation also its sequence and that one's new tokens. `first_token` is how many of the sequence's tokens came
    before, None when nothing that it depends on can come late. `final`: it is the request's last.
    """

    outputs: Mapping[str, Array]
    parameters: Mapping[str, ParameterValue]
    final: bool
    sequence_index: int = 0
    token_ids: Sequence[int] = ()
    first_token: int | None = None

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        tensors = sum(array.nbytes for array in self.outputs.values()) if self.outputs else 0
        return REPLY_BYTES + BYTES_A_TOKEN * len(self.token_ids) + tensors

    def int_parameter(self, name: str) -> int:
        """An integer parameter; 0 when it is absent."""
        return int(self.parameters.get(name, 0))


_INT64_BITS = 64


def signed_bits(value: int) -> int:
    """The bits of an unsigned 64-bit number as a signed one, which is what a parameter carries."""
    return value - (1 << _INT64_BITS) if value >= 1 << (_INT64_BITS - 1) else value
