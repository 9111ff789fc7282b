"""Unary inference on any Triton of a pool; it changes nothing, so that one that is lost is done again elsewhere."""

import asyncio
import time
from typing import Any

import numpy as np

from services.common.deadline import TIMEOUT_PARAMETER, less_time
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.triton_client import STOP_PARAMETER, unavailable
from services.common.triton_member import Lease, TritonMember
from services.common.triton_messages import infer_request
from services.common.triton_pool import TritonPool

_BYTES_OF_TOKEN = 4  # INT32


class RetryBudget:
    """How many repetitions are allowed: a share of all requests, and some to begin with.

    A Triton that dies once may have all of them repeated; when Tritons keep failing, repetitions add a tenth to their
    load and no more.
    """

    SHARE = 0.1
    MOST_SAVED = 256.0

    def __init__(self) -> None:
        self._saved = self.MOST_SAVED

    def note_request(self) -> None:
        """Notes a request that is not a repetition."""
        self._saved = min(self._saved + self.SHARE, self.MOST_SAVED)

    def take(self) -> bool:
        """Whether one more repetition is allowed; if so it counts."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True


class PooledInference:
    """ModelInfer on the least loaded Triton."""

    def __init__(self, pool: TritonPool, max_repetitions: int) -> None:
        self._pool = pool
        self._max_repetitions = max_repetitions
        self._budget = RetryBudget()
        self._stops: set[asyncio.Task[InferReply]] = set()

    async def infer(self, request: Any) -> InferReply:
        """One ModelInfer whose first input is its tokens. Raises NaiadError.

        When it is cancelled the engine hears that nobody waits any more.
        """
        model: str = request.model_name
        sent_s = time.monotonic()
        self._budget.note_request()
        member = self._pool.choose(model)
        if member is None:
            # A single one is asked in any case: it knows better than its last probe.
            if self._pool.may_be_several or not self._pool.members:
                raise unavailable()
            member = self._pool.members[0]
        repetitions = 0
        while True:
            try:
                return await self._infer(member, request)
            except NaiadError as error:
                may_repeat = error.reason is Reason.ENGINE_UNAVAILABLE and self._pool.may_be_several
                if not may_repeat or repetitions >= self._max_repetitions or not self._budget.take():
                    raise
                self._pool.note_lost(member)
                other = await self._pool.choose_other(model, member)
                if other is None:
                    raise
            repetitions += 1
            member = other
            now_s = time.monotonic()
            if TIMEOUT_PARAMETER in request.parameters:
                timeout = request.parameters[TIMEOUT_PARAMETER]
                timeout.int64_param = less_time(timeout.int64_param, now_s - sent_s)
            sent_s = now_s

    async def _infer(self, member: TritonMember, request: Any) -> InferReply:
        lease = Lease(member, len(request.raw_input_contents[0]) // _BYTES_OF_TOKEN)
        try:
            reply = await member.channel.infer(request)
            member.note_unary_answer()
            return reply
        except asyncio.CancelledError:
            self._send_stop(member, request)
            raise
        finally:
            lease.release()

    def _send_stop(self, member: TritonMember, request: Any) -> None:
        """Tells the engine that nobody waits for `request`, which it then does not begin with."""
        nothing = {"input_ids": np.zeros(1, np.int32), "sequence_lengths": np.ones(1, np.int32)}
        message = infer_request(request.model_name, request.id, nothing, {STOP_PARAMETER: True})
        task = asyncio.ensure_future(member.channel.infer(message))
        self._stops.add(task)
        task.add_done_callback(self._forget_stop)

    def _forget_stop(self, task: asyncio.Task[InferReply]) -> None:
        self._stops.discard(task)
        if not task.cancelled():
            task.exception()  # nobody needs to know; asking for it keeps asyncio quiet
