"""The end of tasks that run for as long as their owner."""

import asyncio
from typing import Any


async def cancel_and_wait(*tasks: "asyncio.Task[Any]") -> None:
    """Cancels `tasks` and returns when all have ended. Raises what one of them had failed with.

    Awaiting a cancelled task under `suppress(CancelledError)` would swallow a cancellation of the caller as well, which
    then goes on for ever.
    """
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
