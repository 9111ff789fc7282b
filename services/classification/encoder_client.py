"""Asks Triton for the rows of packed texts (docs/contracts.md, section 3)."""

import itertools
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from tritonclient.grpc import service_pb2

from services.classification.pack_queue import EncoderAnswer, EncoderInput, PackLimits, PackQueue
from services.common.call import current_call, new_request_id
from services.common.deadline import timeout_parameter
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import Array, InferReply, ParameterValue
from services.common.registry import ModelEntry
from services.common.triton_client import unavailable
from services.common.triton_messages import add_inputs, add_parameters, infer_request

LOGITS = "logits"
EMBEDDINGS = "embeddings"
HIDDEN_STATES = "hidden_states"


@dataclass(frozen=True)
class EncoderJob:
    """What is computed: the output tensor, its width, and whether it has a row a token (else a row a text).

    `pooling` is None for the checkpoint's own. `token_logits` is for LOGITS of a model whose task is CLASSIFY_TOKENS.
    """

    output: str
    width: int
    pooling: str | None = None
    token_logits: bool = False

    @property
    def row_per_token(self) -> bool:
        """Whether each token has a row of its own."""
        return self.output == HIDDEN_STATES or self.token_logits


class InferChannel(Protocol):
    """The way to Triton; PooledInference is one."""

    async def infer(self, request: Any) -> InferReply:
        """One ModelInfer. Raises NaiadError. When it is cancelled, the engine is told that nobody waits."""


class EncoderClient:
    """Runs texts on encoder models."""

    def __init__(self, channel: InferChannel, limits: PackLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._queues: dict[tuple[str, bool, EncoderJob], PackQueue] = {}

    def fail_in_flight(self) -> None:
        """Ends all that waits for Triton with ENGINE_UNAVAILABLE: it has not answered for too long."""
        for queue in self._queues.values():
            queue.fail_all(unavailable())

    async def run(self, entry: ModelEntry, texts: Sequence[EncoderInput], job: EncoderJob) -> EncoderAnswer:
        """Rows for each text, each of which has at least one token. Raises NaiadError if any of it fails."""
        if not texts:
            return EncoderAnswer([], 0, 0)
        return await self._queue(entry, job).run(texts, current_call().deadline_s)

    def _queue(self, entry: ModelEntry, job: EncoderJob) -> PackQueue:
        key = (entry.name, entry.uses_token_type_ids, job)
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = PackQueue(_PackRun(self._channel, entry, job).run, self._limits)
        return queue


class _PackRun:
    """Packs of one model and job: messages to Triton, and rows from its answers."""

    def __init__(self, channel: InferChannel, entry: ModelEntry, job: EncoderJob) -> None:
        self._channel = channel
        self._model = entry.name
        self._with_types = entry.uses_token_type_ids
        self._job = job
        pooling: Mapping[str, ParameterValue] = {"pooling": job.pooling} if job.pooling else {}
        # What all requests have in common.
        self._template = infer_request(self._model, "", {}, pooling, (job.output,)).SerializeToString()

    async def run(self, texts: Sequence[EncoderInput], deadline_s: float | None) -> EncoderAnswer:
        """Rows of each text. Raises NaiadError."""
        lengths = [len(text) for text in texts]
        request = self._request(texts, lengths)
        add_parameters(request, timeout_parameter(deadline_s))
        reply = await self._channel.infer(request)
        tensor = reply.outputs.get(self._job.output)
        expected = (sum(lengths) if self._job.row_per_token else len(texts), self._job.width)
        if tensor is None or tensor.shape != expected:
            found = "missing" if tensor is None else f"of shape {tensor.shape}"
            raise NaiadError(Reason.INTERNAL, f"Triton's {self._job.output} is {found}, not of shape {expected}")
        rows_of_each = lengths if self._job.row_per_token else [1] * len(texts)
        ends = itertools.accumulate(rows_of_each)
        rows = [tensor[end - count : end] for end, count in zip(ends, rows_of_each, strict=True)]
        return EncoderAnswer(rows, reply.int_parameter("queue_us"), reply.int_parameter("compute_us"))

    def _request(self, texts: Sequence[EncoderInput], lengths: Sequence[int]) -> Any:
        inputs = {
            "input_ids": _packed(text.ids for text in texts),
            "sequence_lengths": np.array(lengths, np.int32),
        }
        if self._with_types:
            inputs["token_type_ids"] = _packed(text.type_ids for text in texts)
        request = service_pb2.ModelInferRequest.FromString(self._template)
        request.id = new_request_id()
        add_inputs(request, inputs)
        return request


def _packed(sequences: Iterable[Sequence[int]]) -> Array:
    numbers = array("i")  # takes lists as they are, where numpy would ask an iterator for each number
    for sequence in sequences:
        numbers.extend(sequence)
    return np.frombuffer(numbers, np.int32)
