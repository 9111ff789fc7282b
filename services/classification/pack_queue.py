"""Gathers the texts of waiting calls: while packs are with the engine, the next ones fill."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
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
    """Rows of each text, in order, and the longest wait and computation of a part of them, in microseconds."""

    rows: list[FloatArray]
    queue_us: int
    compute_us: int


@dataclass(frozen=True)
class PackLimits:
    """Most tokens in one request to Triton, and most such requests in flight for one model."""

    max_pack_tokens: int
    max_parallel_packs: int


class _Call(WaitingTexts):
    """One call: its texts, and the answers that have come."""

    def __init__(self, texts: Sequence[EncoderInput], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__([len(text) for text in texts])
        self.texts = texts
        self.done: asyncio.Future[EncoderAnswer] = loop.create_future()
        self._arrived_s = loop.time()
        self._answers: list[tuple[int, EncoderAnswer]] = []  # by the place of their first text
        self._missing = len(texts)

    def accept(self, places: range, answer: EncoderAnswer, sent_s: float) -> None:
        """Takes the answer for the texts at `places`, which were sent to Triton at `sent_s`."""
        waited_us = round((sent_s - self._arrived_s) * 1e6)
        part = EncoderAnswer(answer.rows, waited_us + answer.queue_us, answer.compute_us)
        self._answers.append((places.start, part))
        self._missing -= len(places)
        if self._missing or self.done.done():
            return
        if len(self._answers) > 1:  # packs overtake each other
            self._answers.sort(key=lambda first_and_part: first_and_part[0])
            parts = [part for _, part in self._answers]
            part = EncoderAnswer(
                [row for part in parts for row in part.rows],
                max(part.queue_us for part in parts),
                max(part.compute_us for part in parts),
            )
        self.done.set_result(part)

    def fail(self, error: Exception) -> None:
        """Ends the call."""
        self.next_text = len(self.lengths)
        if not self.done.done():
            self.done.set_exception(error)


_Parts = Sequence[tuple[_Call, range]]
Compute = Callable[[Sequence[EncoderInput]], Awaitable[EncoderAnswer]]


class PackQueue:
    """Runs the texts of many calls on one model, for one kind of output.

    A call is sent at once unless as many packs as may be are in flight; then it waits for one of them, and goes with
    whatever else waits by then. So nothing is held back in an idle system, and under load a message carries the texts
    of several calls.
    """

    def __init__(self, compute: Compute, limits: PackLimits) -> None:
        """`compute` asks the engine for the rows of one pack; it is never cancelled."""
        self._compute = compute
        self._limits = limits
        self._waiting: list[_Call] = []
        self._in_flight: dict[asyncio.Task[None], _Parts] = {}

    async def run(self, texts: Sequence[EncoderInput]) -> EncoderAnswer:
        """Rows for each text, of which there is at least one, each of at least one token. Raises NaiadError.

        A caller that is cancelled takes those of its texts along that were not sent yet.
        """
        call = _Call(texts, asyncio.get_running_loop())
        self._waiting.append(call)
        self._send()
        try:
            return await call.done
        except asyncio.CancelledError:
            with contextlib.suppress(ValueError):
                self._waiting.remove(call)
            raise

    def fail_all(self, error: NaiadError) -> None:
        """Ends all calls with `error`; what still comes for them is dropped."""
        calls = [*self._waiting, *(call for parts in self._in_flight.values() for call, _ in parts)]
        self._waiting.clear()
        self._in_flight.clear()
        for call in calls:
            call.fail(error)

    def _send(self) -> None:
        while self._waiting and len(self._in_flight) < self._limits.max_parallel_packs:
            parts = fill_pack(self._waiting, self._limits.max_pack_tokens)
            self._waiting = [call for call in self._waiting if call.is_waiting]
            task = asyncio.create_task(self._run_pack(parts))
            self._in_flight[task] = parts
            task.add_done_callback(self._on_end)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        self._in_flight.pop(task, None)
        self._send()

    async def _run_pack(self, parts: _Parts) -> None:
        sent_s = asyncio.get_running_loop().time()
        try:
            answer = await self._compute(
                [text for call, places in parts for text in call.texts[places.start : places.stop]]
            )
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


def _fail(parts: _Parts, error: Exception) -> None:
    for call, _ in parts:
        call.fail(error)
