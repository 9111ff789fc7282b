"""Classifies a stream of items: read ahead within bounds, packed as they come, answered in order; free of gRPC."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

from services.classification.bulk_engine import BulkEngine
from services.classification.classify_logic import Scored
from services.classification.long_texts import Reading
from services.classification.text_batches import Item
from services.common.errors import NaiadError, Reason

Outcome = Scored | NaiadError


@dataclass(frozen=True)
class BulkItem:
    """One item as it came: `content` is the error of one that cannot be used."""

    id: str
    content: Item | NaiadError


@dataclass(frozen=True)
class BulkAnswer:
    """The outcome of the item at `index` of the stream."""

    index: int
    id: str
    outcome: Outcome


@dataclass(frozen=True)
class BulkLimits:
    """Most items, and bytes of their texts, that wait for their answers; reading stops until there are fewer.

    `pack_tokens` are sent to the engine together, in at most `parallel_packs` at once.
    """

    max_items: int
    max_bytes: int
    pack_tokens: int
    parallel_packs: int


@dataclass(eq=False)
class _Slot:
    """An item on its way. `reading` is None before and after the engine needs it."""

    index: int
    item: BulkItem
    size_bytes: int
    reading: Reading | None = None
    outcome: Outcome | None = None

    @property
    def tokens(self) -> int:
        return self.reading.run_tokens if self.reading is not None else 0


@dataclass(frozen=True)
class _Pack:
    """Neighbouring items that are computed together; the task gives their outcomes, or why the stream must end."""

    slots: Sequence[_Slot]
    task: asyncio.Task[NaiadError | None]


Write = Callable[[Sequence[BulkAnswer]], Awaitable[None]]


class BulkStream:
    """One stream. `items_read` counts its items.

    A pack is sent as soon as a place in the engine is free, with what there is by then: a lone item does not wait for
    others, and while the engine is busy full packs build up.
    """

    def __init__(self, engine: BulkEngine, limits: BulkLimits, stopping: asyncio.Event) -> None:
        """`stopping` is set when the service shuts down."""
        self._engine = engine
        self._limits = limits
        self._stopping = stopping
        self.items_read = 0
        self._waiting_items = 0
        self._waiting_bytes = 0
        self._incoming: deque[_Slot] = deque()
        self._tokenized: deque[_Slot] = deque()
        self._packs: asyncio.Queue[_Pack | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(limits.parallel_packs)
        self._changed = asyncio.Condition()
        self._all_read = False  # the client has ended its side, or broken the protocol
        self._input_ended = False  # that, or the service shuts down
        self._end_error: NaiadError | None = None

    async def run(self, portions: AsyncIterator[Sequence[BulkItem]], write: Write) -> None:
        """Reads `portions` until they end and writes the answers. Raises NaiadError, after the answers before it."""
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(portions))
                stopper = group.create_task(self._stop_reading(reader))
                group.create_task(self._dispatch(group))
                await self._write_answers(write)
                reader.cancel()
                stopper.cancel()
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if self._end_error is not None:
            raise self._end_error

    async def _read(self, portions: AsyncIterator[Sequence[BulkItem]]) -> None:
        try:
            async for portion in portions:
                for item in portion:
                    slot = _Slot(self.items_read, item, _size_bytes(item))
                    self.items_read += 1
                    self._waiting_items += 1
                    self._waiting_bytes += slot.size_bytes
                    self._incoming.append(slot)
                async with self._changed:
                    self._changed.notify_all()
                    await self._changed.wait_for(self._has_room)
        except NaiadError as error:  # what came before is still answered
            self._end_error = error
        self._all_read = True
        await self._end_input()

    def _has_room(self) -> bool:
        return self._waiting_items < self._limits.max_items and self._waiting_bytes < self._limits.max_bytes

    async def _end_input(self) -> None:
        async with self._changed:
            self._input_ended = True
            self._changed.notify_all()

    async def _stop_reading(self, reader: asyncio.Task[None]) -> None:
        """At a shutdown finishes what the engine has, and drops the rest, which the client can send elsewhere."""
        await self._stopping.wait()
        reader.cancel()
        await self._end_input()

    async def _dispatch(self, group: asyncio.TaskGroup) -> None:
        while True:
            await self._places.acquire()
            if not await self._next_is_there():
                break
            slots = await self._fill_pack()
            task = group.create_task(self._compute(slots))
            self._packs.put_nowait(_Pack(slots, task))
        if self._incoming or self._tokenized or not self._all_read:
            self._end_error = NaiadError(Reason.SHUTTING_DOWN, "the service is shutting down")
        self._packs.put_nowait(None)

    async def _next_is_there(self) -> bool:
        """Waits for an item; False when no more will be sent."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._incoming or self._tokenized or self._input_ended)
        return bool(self._incoming or self._tokenized) and not self._stopping.is_set()

    async def _fill_pack(self) -> list[_Slot]:
        """The next items, as far as there are any and they fit into a pack; at least one."""
        slots: list[_Slot] = []
        tokens = 0
        while tokens < self._limits.pack_tokens:
            if not self._tokenized:
                if not self._incoming:
                    break
                await self._tokenize_some()
            slot = self._tokenized[0]
            if slots and tokens + slot.tokens > self._limits.pack_tokens:
                break
            slots.append(self._tokenized.popleft())
            tokens += slot.tokens
        return slots

    async def _tokenize_some(self) -> None:
        # About a pack, at a token each four bytes: tokens of a text take far more memory than the text.
        some = [self._incoming.popleft()]
        room_bytes = 4 * self._limits.pack_tokens - some[0].size_bytes
        while self._incoming and room_bytes >= self._incoming[0].size_bytes:
            some.append(self._incoming.popleft())
            room_bytes -= some[-1].size_bytes
        for slot, result in zip(some, await self._engine.prepare([slot.item.content for slot in some]), strict=True):
            if isinstance(result, NaiadError):
                slot.outcome = result
            else:
                slot.reading = result
        self._tokenized.extend(some)

    async def _compute(self, slots: Sequence[_Slot]) -> NaiadError | None:
        """Fills in the outcomes; returns the error that ends the stream."""
        try:
            good = [(slot, slot.reading) for slot in slots if slot.reading is not None]
            outcomes = await self._engine.classify([reading for _, reading in good])
            for (slot, _), outcome in zip(good, outcomes, strict=True):
                slot.outcome, slot.reading = outcome, None
        except NaiadError as error:
            return error
        finally:
            self._places.release()
        return None

    async def _write_answers(self, write: Write) -> None:
        while (pack := await self._packs.get()) is not None:
            error = await pack.task
            if error is not None:
                raise error
            for start in range(0, len(pack.slots), self._engine.answers_a_message):
                slots = pack.slots[start : start + self._engine.answers_a_message]
                await write([BulkAnswer(slot.index, slot.item.id, _outcome(slot)) for slot in slots])
            async with self._changed:
                self._waiting_items -= len(pack.slots)
                self._waiting_bytes -= sum(slot.size_bytes for slot in pack.slots)
                self._changed.notify_all()


def _size_bytes(item: BulkItem) -> int:
    """Bytes of the texts, at most."""
    content = item.content
    if isinstance(content, NaiadError):
        return 0
    return len(content.encode()) if isinstance(content, str) else sum(len(text.encode()) for text in content)


def _outcome(slot: _Slot) -> Outcome:
    assert slot.outcome is not None
    return slot.outcome
