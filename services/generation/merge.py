"""Several streams of events as one, in the order in which they come."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import TypeVar

EventT = TypeVar("EventT")
# Small: a reader that is slow must make its sources wait, not fill memory.
MAX_WAITING_EVENTS = 16


async def merged(sources: Sequence[AsyncGenerator[EventT, None]]) -> AsyncGenerator[EventT, None]:
    """Events of all sources until the last one ends. The first failure of a source ends them all."""
    if len(sources) == 1:
        async with aclosing(sources[0]) as events:
            async for event in events:
                yield event
        return
    queue: asyncio.Queue[EventT | BaseException | None] = asyncio.Queue(MAX_WAITING_EVENTS)

    async def pump(source: AsyncGenerator[EventT, None]) -> None:
        try:
            async with aclosing(source) as events:
                async for event in events:
                    await queue.put(event)
        except Exception as error:  # handed to the reader, who raises it
            await queue.put(error)
        await queue.put(None)

    tasks = [asyncio.create_task(pump(source)) for source in sources]
    try:
        running = len(tasks)
        while running:
            item = await queue.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
