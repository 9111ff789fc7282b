"""One generation on the stream to Triton: its replies, in their order, in a bounded buffer."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.write_stall import reads_too_slowly

# Responses overtake each other by one step at most; one that is missing for so long does not come any more.
MAX_LATE_S = 30.0
MAX_BUFFERED_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class RequestLimits:
    """How many sequences a request has, and how many replies of each may wait for the reader.

    `max_buffered_bytes` is the bound of them all. `resumed_tokens` are those that its one sequence had before, when it
    goes on with an earlier request.
    """

    num_sequences: int
    max_buffered_of_each: int
    max_buffered_bytes: int = MAX_BUFFERED_BYTES
    resumed_tokens: int = 0


class RequestOwner(Protocol):
    """The stream that a request is on."""

    def is_live(self, request: "StreamRequest") -> bool:
        """Whether the engine may still work on `request`."""

    def send_stop(self, request: "StreamRequest", sequence_index: int | None) -> None:
        """Sends the stop message of `request`, or of one of its sequences."""

    def forget(self, request: "StreamRequest") -> None:
        """Drops whatever still comes for `request`."""


class StreamRequest:
    """One request on the stream; replies wait in a bounded buffer. Made by `TritonStream.submit`.

    Triton keeps the order of responses of one request only. Tokens come in responses of other requests, too, so that
    their place is counted, and what comes early waits.
    """

    def __init__(self, owner: RequestOwner, model: str, request_id: str, key: int, limits: "RequestLimits") -> None:
        """`key` is the request's number among those of the stream."""
        self.model = model
        self.request_id = request_id
        self.key = key
        self._owner = owner
        self._replies: list[InferReply] = []
        self._early: list[InferReply] = []
        self._late_timer: asyncio.TimerHandle | None = None  # runs while replies wait for earlier ones
        # Of each sequence, of the replies that are in their order.
        self._token_counts = dict.fromkeys(range(limits.num_sequences), limits.resumed_tokens)
        self._max_buffered = limits.max_buffered_of_each * limits.num_sequences  # each step brings each a reply
        self._max_buffered_bytes = limits.max_buffered_bytes
        self._buffered_bytes = 0
        self._failure: NaiadError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._stopped = False
        self._stopped_sequences: set[int] = set()

    async def next_replies(self) -> list[InferReply]:
        """All replies that have come since the last call, at least one. Raises NaiadError when the request failed."""
        while not self._replies:
            if self._failure is not None:
                raise self._failure
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        replies, self._replies = self._replies, []
        self._buffered_bytes = sum(reply.size_bytes for reply in self._early) if self._early else 0
        return replies

    def stop(self, sequence_index: int | None = None) -> None:
        """Asks the engine, once, to end this request, or only one of its sequences; last replies still come.

        Does nothing when the request has ended.
        """
        if self._stopped or sequence_index in self._stopped_sequences or not self._owner.is_live(self):
            return
        if sequence_index is None:
            self._stopped = True
        else:
            self._stopped_sequences.add(sequence_index)
        self._owner.send_stop(self, sequence_index)

    def close(self) -> None:
        """Ends the request if it still runs, and hears no more of it."""
        self.stop()
        self._stop_timer()
        self._owner.forget(self)

    def deliver(self, reply: InferReply) -> None:
        """Takes one reply from the stream."""
        self._buffered_bytes += reply.size_bytes
        if not self._is_next(reply):
            self._early.append(reply)
            if self._late_timer is None:
                self._late_timer = asyncio.get_running_loop().call_later(MAX_LATE_S, self._on_late)
            self._check_buffer()
            return
        self._accept(reply)
        if self._early:
            self._accept_early()

    def _is_next(self, reply: InferReply) -> bool:
        """Whether everything before it has come. The request's last reply also comes after those of all sequences."""
        count = self._token_counts.get(reply.sequence_index)
        if count is not None and reply.first_token is not None and reply.first_token > count:
            return False
        return not reply.final or all(early is reply for early in self._early)

    def _accept_early(self) -> None:
        while (following := next(filter(self._is_next, self._early), None)) is not None:
            self._early.remove(following)
            self._accept(following)
        if not self._early:
            self._stop_timer()

    def _on_late(self) -> None:
        self.close()
        self.fail(NaiadError(Reason.INTERNAL, "a response of the engine got lost"))

    def _stop_timer(self) -> None:
        if self._late_timer is not None:
            self._late_timer.cancel()
            self._late_timer = None

    def _accept(self, reply: InferReply) -> None:
        if reply.sequence_index in self._token_counts:  # else it is for the reader to refuse
            self._token_counts[reply.sequence_index] += len(reply.token_ids)
        if reply.final:
            self._owner.forget(self)
        self._replies.append(reply)
        if self._check_buffer():
            self._wake()

    def _check_buffer(self) -> bool:
        """Whether what waits is within its bound; otherwise the request ends."""
        few = len(self._replies) + len(self._early) <= self._max_buffered
        if few and self._buffered_bytes <= self._max_buffered_bytes:
            return True
        self.close()
        self._replies.clear()
        self._early.clear()
        self.fail(reads_too_slowly())
        return False

    def fail(self, error: NaiadError) -> None:
        """Ends the request with `error`, after the replies that already came."""
        self._failure = error
        self._stop_timer()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def stopped(self) -> bool:
        """Whether a stop message was sent."""
        return self._stopped or bool(self._stopped_sequences)
