"""Sends packed texts to Triton and takes the answers apart (docs/contracts.md, section 3)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from services.classification.packing import split_into_packs
from services.common.call import current_call, new_request_id
from services.common.deadline import timeout_parameter
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.registry import ModelEntry
from services.common.triton_client import STOP_PARAMETER, TritonChannel, unavailable
from services.common.triton_messages import infer_request

FloatArray = npt.NDArray[np.float32]
LOGITS = "logits"
EMBEDDINGS = "embeddings"
HIDDEN_STATES = "hidden_states"


class EncoderInput(Protocol):
    """Tokens of one text, or of two that are read together. The lists may be made when they are asked for."""

    @property
    def ids(self) -> Sequence[int]:
        """Token ids."""

    @property
    def type_ids(self) -> Sequence[int]:
        """Which text of a pair each token belongs to, as the model wants it."""

    def __len__(self) -> int: ...


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


@dataclass(frozen=True)
class EncoderAnswer:
    """Rows of each text, in order, and the longest wait and computation of a pack, in microseconds.

    `first_queue_us` is the shortest wait: that pack waited for other calls only, not for packs of its own.
    """

    rows: list[FloatArray]
    queue_us: int
    compute_us: int
    first_queue_us: int = 0


@dataclass(frozen=True)
class PackLimits:
    """Most tokens in one request to Triton, and most such requests in flight for one call."""

    max_pack_tokens: int
    max_parallel_packs: int


class EncoderClient:
    """Runs texts on encoder models."""

    def __init__(self, channel: TritonChannel, limits: PackLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._stalled = asyncio.Event()
        self._stops: set[asyncio.Task[InferReply]] = set()

    def fail_in_flight(self) -> None:
        """Ends all that waits for Triton with ENGINE_UNAVAILABLE: it has not answered for too long."""
        self._stalled.set()
        self._stalled = asyncio.Event()

    async def run(self, entry: ModelEntry, texts: Sequence[EncoderInput], job: EncoderJob) -> EncoderAnswer:
        """Rows for each text, each of which has at least one token. Raises NaiadError if any of it fails."""
        packs = split_into_packs([len(text) for text in texts], self._limits.max_pack_tokens)
        slots = asyncio.Semaphore(self._limits.max_parallel_packs)

        async def run_pack(pack: range) -> EncoderAnswer:
            async with slots:
                return await self._run_pack(entry, [texts[index] for index in pack], job)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(run_pack(pack)) for pack in packs]
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        answers = [task.result() for task in tasks]
        return EncoderAnswer(
            rows=[row for answer in answers for row in answer.rows],
            queue_us=max((answer.queue_us for answer in answers), default=0),
            compute_us=max((answer.compute_us for answer in answers), default=0),
            first_queue_us=min((answer.queue_us for answer in answers), default=0),
        )

    async def _run_pack(self, entry: ModelEntry, texts: Sequence[EncoderInput], job: EncoderJob) -> EncoderAnswer:
        lengths = np.array([len(text) for text in texts], np.int32)
        inputs = {"input_ids": _packed([text.ids for text in texts]), "sequence_lengths": lengths}
        if entry.uses_token_type_ids:
            inputs["token_type_ids"] = _packed([text.type_ids for text in texts])
        parameters = dict(timeout_parameter(current_call().deadline_s))
        if job.pooling:
            parameters["pooling"] = job.pooling
        reply = await self._infer(infer_request(entry.name, new_request_id(), inputs, parameters, (job.output,)))
        tensor = reply.outputs.get(job.output)
        expected = (int(lengths.sum()) if job.row_per_token else len(texts), job.width)
        if tensor is None or tensor.shape != expected:
            found = "missing" if tensor is None else f"of shape {tensor.shape}"
            raise NaiadError(Reason.INTERNAL, f"Triton's {job.output} is {found}, not of shape {expected}")
        rows = np.split(tensor, np.cumsum(lengths)[:-1]) if job.row_per_token else np.split(tensor, len(texts))
        return EncoderAnswer(rows, reply.int_parameter("queue_us"), reply.int_parameter("compute_us"))

    async def _infer(self, request: Any) -> InferReply:
        call = asyncio.ensure_future(self._channel.infer(request))
        stalled = asyncio.create_task(self._stalled.wait())
        try:
            await asyncio.wait({call, stalled}, return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                raise unavailable()
            return call.result()
        except asyncio.CancelledError:
            if not call.done():
                self._send_stop(request)
            raise
        finally:
            # Only our wait ends: the channel never cancels a call that Triton has.
            call.cancel()
            stalled.cancel()

    def _send_stop(self, request: Any) -> None:
        """Tells the engine that nobody waits for `request`, which it then does not begin with."""
        nothing = {"input_ids": np.zeros(1, np.int32), "sequence_lengths": np.ones(1, np.int32)}
        message = infer_request(request.model_name, request.id, nothing, {STOP_PARAMETER: True})
        task = asyncio.ensure_future(self._channel.infer(message))
        self._stops.add(task)
        task.add_done_callback(self._forget_stop)

    def _forget_stop(self, task: asyncio.Task[InferReply]) -> None:
        self._stops.discard(task)
        if not task.cancelled():
            task.exception()  # nobody needs to know; asking for it keeps asyncio quiet


def _packed(sequences: Sequence[Sequence[int]]) -> npt.NDArray[np.int32]:
    return np.fromiter((token for sequence in sequences for token in sequence), np.int32)
