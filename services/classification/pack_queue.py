"""Gathers the texts of waiting calls: while packs are with the engine, the next ones fill."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.classification.packing import WaitingTexts, fill_pack
from services.common.errors import NaiadError, Reason

FloatArray = npt.NDArray[np.float32]


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
    """Most tokens in one request to Triton, and most such requests in flight for one model."""

    max_pack_tokens: int
    max_parallel_packs: int


class _Call(WaitingTexts):
    """One call: its texts, and the answers that have come. `deadline_s` is in the time of the event loop."""

    def __init__(self, texts: Sequence[EncoderInput], deadline_s: float | None) -> None:
        super().__init__([len(text) for text in texts])
        self.texts = texts
        self.deadline_s = deadline_s
        self.done: asyncio.Future[EncoderAnswer] = asyncio.get_running_loop().create_future()
        self._arrived_s = time.monotonic()
        self._answers: list[tuple[int, EncoderAnswer]] = []  # by the place of their first text
        self._missing = len(texts)

    def accept(self, places: range, answer: EncoderAnswer, sent_s: float) -> None:
        """Takes the answer for the texts at `places`, which were sent to Triton at `sent_s`."""
        wait_us = round((sent_s - self._arrived_s) * 1e6) + answer.queue_us
        self._answers.append((places.start, EncoderAnswer(answer.rows, wait_us, answer.compute_us, wait_us)))
        self._missing -= len(places)
        if not self._missing and not self.done.done():
            self.done.set_result(self._joined())

    def _joined(self) -> EncoderAnswer:
        if len(self._answers) == 1:
            return self._answers[0][1]
        self._answers.sort(key=lambda first_and_part: first_and_part[0])  # packs overtake each other
        parts = [part for _, part in self._answers]
        return EncoderAnswer(
            rows=[row for part in parts for row in part.rows],
            queue_us=max(part.queue_us for part in parts),
            compute_us=max(part.compute_us for part in parts),
            first_queue_us=min(part.queue_us for part in parts),
        )

    def fail(self, error: Exception) -> None:
        """Ends the call."""
        self.next_text = len(self.lengths)
        if not self.done.done():
            self.done.set_exception(error)


class _Alone:
    """A context in which the current task waits for the engine, until `fail` ends that wait with an error."""

    def __init__(self) -> None:
        self._task = asyncio.current_task()
        self._error: Exception | None = None

    def fail(self, error: Exception) -> None:
        """Ends the wait."""
        self._error = error
        if self._task is not None:
            self._task.cancel()

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # As asyncio.timeout does it: a cancellation that was not ours goes on.
        if self._error is None or self._task is None or self._task.uncancel() > 0:
            return
        if kind is asyncio.CancelledError:
            raise self._error


_Parts = Sequence[tuple[_Call, range]]
# Asks the engine for the rows of one pack, which has time until a deadline; cancelled when nobody waits for it.
Compute = Callable[[Sequence[EncoderInput], float | None], Awaitable[EncoderAnswer]]


class PackQueue:
    """Runs the texts of many calls on one model, for one kind of output.

    A call is sent at once unless as many packs as may be are in flight; then it waits for one of them, and goes with
    whatever else waits by then. So nothing is held back in an idle system, and under load a message carries the texts
    of several calls.
    """

    def __init__(self, compute: Compute, limits: PackLimits) -> None:
        self._compute = compute
        self._limits = limits
        self._waiting: list[_Call] = []
        self._in_flight: dict[asyncio.Task[None], _Parts] = {}
        self._alone: set[_Alone] = set()

    async def run(self, texts: Sequence[EncoderInput], deadline_s: float | None = None) -> EncoderAnswer:
        """Rows for each text, of which there is at least one, each of at least one token. Raises NaiadError.

        A caller that is cancelled takes its texts along, except from packs that others wait for, too.
        """
        if not self._waiting and self._has_room and sum(map(len, texts)) <= self._limits.max_pack_tokens:
            return await self._run_alone(texts, deadline_s)
        call = _Call(texts, deadline_s)
        self._waiting.append(call)
        self._send()
        try:
            return await call.done
        except asyncio.CancelledError:
            self._drop(call)
            raise

    @property
    def _has_room(self) -> bool:
        return len(self._in_flight) + len(self._alone) < self._limits.max_parallel_packs

    async def _run_alone(self, texts: Sequence[EncoderInput], deadline_s: float | None) -> EncoderAnswer:
        """A pack of one call that can be sent at once needs no task of its own."""
        alone = _Alone()
        self._alone.add(alone)
        try:
            with alone:
                answer = await self._compute(texts, deadline_s)
        finally:
            self._alone.discard(alone)
            self._send()
        return replace(answer, first_queue_us=answer.queue_us)

    def _drop(self, call: _Call) -> None:
        with contextlib.suppress(ValueError):
            self._waiting.remove(call)
        for task, parts in self._in_flight.items():
            if all(other.done.done() for other, _ in parts):
                task.cancel()

    def fail_all(self, error: NaiadError) -> None:
        """Ends all calls with `error`; what still comes for them is dropped."""
        calls = [*self._waiting, *(call for parts in self._in_flight.values() for call, _ in parts)]
        self._waiting.clear()
        self._in_flight.clear()
        for call in calls:
            call.fail(error)
        for alone in self._alone:
            alone.fail(error)
        self._alone.clear()

    def _send(self) -> None:
        while self._waiting and self._has_room:
            parts = fill_pack(self._waiting, self._limits.max_pack_tokens)
            self._waiting = [call for call in self._waiting if call.is_waiting]
            task = asyncio.create_task(self._run_pack(parts))
            self._in_flight[task] = parts
            task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        self._send()

    async def _run_pack(self, parts: _Parts) -> None:
        sent_s = time.monotonic()
        try:
            texts = [text for call, places in parts for text in call.texts[places.start : places.stop]]
            answer = await self._compute(texts, _latest_deadline_s(parts))
        except NaiadError as error:
            if error.reason is Reason.INVALID_FIELD and len(parts) > 1:
                # Alone, each call answers for its own texts.
                for part in parts:
                    await self._run_pack([part])
                return
            _fail(parts, error)
        except Exception as error:
            _fail(parts, error)
        else:
            first = 0
            for call, places in parts:
                rows = answer.rows[first : first + len(places)]
                call.accept(places, EncoderAnswer(rows, answer.queue_us, answer.compute_us), sent_s)
                first += len(places)


def _latest_deadline_s(parts: _Parts) -> float | None:
    """Until when at least one of the calls waits; None for ever."""
    deadlines_s = [call.deadline_s for call, _ in parts if call.deadline_s is not None]
    return max(deadlines_s) if len(deadlines_s) == len(parts) else None


def _fail(parts: _Parts, error: Exception) -> None:
    for call, _ in parts:
        call.fail(error)
