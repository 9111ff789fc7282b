"""Generations that survive their Triton: what was under way goes on at another, from the tokens that have come.

What the engine draws depends on the request, its seed and the tokens so far, and on nothing else (docs/engine.md), so
that a request that goes on elsewhere gets the very tokens that it would have got.
"""

import asyncio
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from services.common.deadline import TIMEOUT_PARAMETER, less_time
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import (
    FINISH_REASON,
    NUM_SEQUENCES,
    RESUMED_SEQUENCE,
    RESUMED_TOKENS,
    Array,
    InferReply,
    ParameterValue,
)
from services.common.stream_request import StreamRequest
from services.common.triton_client import unavailable
from services.common.triton_member import Lease, TritonMember
from services.common.triton_pool import TritonPool
from services.generation.engine import EngineRequest

INPUT_IDS = "input_ids"
_MAX_TOKENS = "request_output_len"
_SCORES = "return_context_log_probs"


@dataclass(frozen=True)
class Work:
    """One request as the engine gets it."""

    model: str
    inputs: Mapping[str, Array]
    parameters: Mapping[str, ParameterValue]

    @property
    def sequences(self) -> int:
        """How many sequences it has."""
        return int(self.parameters.get(NUM_SEQUENCES, 1))

    @property
    def is_score(self) -> bool:
        """Whether it asks for scores of its prompt, and for no new tokens."""
        return bool(self.parameters.get(_SCORES))

    @property
    def tokens(self) -> int:
        """Most tokens that it takes: the prompt, and new ones of all sequences."""
        return len(self.inputs[INPUT_IDS]) + int(self.parameters.get(_MAX_TOKENS, 0)) * self.sequences

    def later(self, passed_s: float) -> "Work":
        """The same with less time."""
        if TIMEOUT_PARAMETER not in self.parameters:
            return self
        timeout_us = less_time(self.parameters[TIMEOUT_PARAMETER], passed_s)
        return replace(self, parameters={**self.parameters, TIMEOUT_PARAMETER: timeout_us})

    def rest(self, sequence: int, received: list[int]) -> "Work":
        """What is left of one sequence of which `received` has come."""
        ids = np.concatenate([self.inputs[INPUT_IDS], np.array(received, np.int32)])
        parameters = {**self.parameters, RESUMED_TOKENS: len(received), RESUMED_SEQUENCE: sequence}
        parameters.pop(NUM_SEQUENCES, None)  # it is one
        return Work(self.model, {**self.inputs, INPUT_IDS: ids}, parameters)


class _Part:
    """A request at one Triton: all sequences of the work, or the rest of one of them."""

    def __init__(self, member: TritonMember, work: Work, sequence: int | None = None, failovers: int = 0) -> None:
        """Sends it. `sequence` is the one whose rest it is, `failovers` how often the request has moved.

        Raises ENGINE_UNAVAILABLE.
        """
        if member.stream is None:
            raise unavailable()
        self.member = member
        self.sequence = sequence
        self.failovers = failovers
        self.request: StreamRequest = member.stream.submit(work.model, work.inputs, work.parameters)
        self._lease = Lease(member, work.tokens)
        self._reading: asyncio.Task[list[InferReply]] | None = None

    def read_ahead(self) -> asyncio.Task[list[InferReply]]:
        """The task that waits for its next replies."""
        if self._reading is None:
            self._reading = asyncio.create_task(self.request.next_replies())
        return self._reading

    def reading(self) -> Awaitable[list[InferReply]]:
        """Gives its next replies, which `taken` is to have. Raises NaiadError when awaited."""
        # Not a coroutine, as each would cost every token.
        reading, self._reading = self._reading, None
        return self.request.next_replies() if reading is None else reading

    def taken(self, replies: list[InferReply]) -> list[InferReply]:
        """What `reading` has given, as replies of the work's sequences."""
        if self.sequence is not None:
            for reply in replies:
                reply.sequence_index = self.sequence
        if replies[-1].final:
            self._lease.release()
        return replies

    def close(self) -> None:
        """Ends it if it still runs, and hears no more of it."""
        if self._reading is not None:
            self._reading.cancel()
            self._reading.add_done_callback(_forget_result)
        self.request.close()
        self._lease.release()


def _forget_result(reading: asyncio.Task[list[InferReply]]) -> None:
    if not reading.cancelled():
        reading.exception()  # nobody else asks for it; this keeps asyncio quiet


class FailoverEngine:
    """Runs generations on the Tritons of a pool."""

    def __init__(self, pool: TritonPool, max_failovers: int) -> None:
        """`max_failovers` bounds how often one request moves: it may be what its Tritons die of."""
        self.pool = pool
        self.max_failovers = max_failovers

    def submit(
        self, model: str, inputs: Mapping[str, Array], parameters: Mapping[str, ParameterValue]
    ) -> EngineRequest:
        """Starts one. Raises ENGINE_UNAVAILABLE."""
        member = self.pool.choose(model, inputs[INPUT_IDS])
        if member is None:
            # One that is not loaded is never sent: Triton 2.51 may abort (decision 0002).
            if self.pool.reachable and not self.pool.model_ready(model):
                raise NaiadError(Reason.ENGINE_UNAVAILABLE, f"model {model} is not loaded")
            raise unavailable()
        work = Work(model, inputs, parameters)
        return ResumableRequest(self, work, _Part(member, work))


class ResumableRequest:
    """One request, wherever it runs."""

    def __init__(self, engine: FailoverEngine, work: Work, part: _Part) -> None:
        self._engine = engine
        self._work = work
        self._is_score = work.is_score
        self._submitted_s = time.monotonic()
        self._parts = [part]
        self._received: dict[int, list[int]] = {index: [] for index in range(work.sequences)}
        self._ended: set[int] = set()  # have had their last reply, or are not wanted any more
        self._has_replies = False
        self._scores: list[InferReply] = []

    async def next_replies(self) -> list[InferReply]:
        """Replies that have come since the last call, at least one. Raises NaiadError."""
        while True:
            part = self._parts[0] if len(self._parts) == 1 else await self._first_ready()
            try:
                replies = part.taken(await part.reading())
            except NaiadError as error:
                await self._move(part, error)
                continue
            self._note(part, replies)
            if not self._is_score:
                return replies
            # Scores come in pieces, and begin again when the request moves: handed out as a whole.
            self._scores += replies
            if replies[-1].final:
                return self._scores

    def stop(self, sequence_index: int | None = None) -> None:
        """Asks the engine to end it, or only one of its sequences; last replies still come."""
        self._ended.update(self._received if sequence_index is None else (sequence_index,))
        for part in self._parts:
            if part.sequence is None:
                part.request.stop(sequence_index)
            elif sequence_index in (None, part.sequence):
                part.request.stop()

    def close(self) -> None:
        """Ends it if it still runs, and hears no more of it."""
        for part in self._parts:
            part.close()

    async def _first_ready(self) -> _Part:
        readings = {part.read_ahead(): part for part in self._parts}
        done, _ = await asyncio.wait(readings, return_when=asyncio.FIRST_COMPLETED)
        return readings[done.pop()]

    def _note(self, part: _Part, replies: list[InferReply]) -> None:
        self._has_replies = not self._is_score
        for reply in replies:
            if reply.token_ids and (received := self._received.get(reply.sequence_index)) is not None:
                received += reply.token_ids
            if FINISH_REASON in reply.parameters:
                self._ended.add(reply.sequence_index)
        if replies[-1].final and len(self._parts) > 1:
            self._parts.remove(part)
            replies[-1].final = False  # of this part, not of the request

    async def _move(self, part: _Part, error: NaiadError) -> None:
        """Goes on with what `part` had at another Triton. Raises `error` when that cannot be done."""
        part.close()
        wanted = self._received if part.sequence is None else (part.sequence,)
        unfinished = [index for index in wanted if index not in self._ended]
        if not unfinished and len(self._parts) > 1:
            self._parts.remove(part)
            return
        may_move = error.reason is Reason.ENGINE_UNAVAILABLE and part.failovers < self._engine.max_failovers
        if not unfinished or not may_move:
            raise error
        self._scores.clear()
        prompt_ids = self._work.inputs[INPUT_IDS]
        member = await self._engine.pool.choose_other(self._work.model, part.member, prompt_ids)
        if member is None:
            raise error
        failovers = part.failovers + 1
        work = self._work.later(time.monotonic() - self._submitted_s)
        if self._has_replies or part.sequence is not None:
            rests = {index: work.rest(index, self._received[index]) for index in unfinished}
            moved = [_Part(member, rest, index, failovers) for index, rest in rests.items()]
        else:
            moved = [_Part(member, work, None, failovers)]
        self._parts.remove(part)
        self._parts += moved
