"""The event loop that the services run on."""

import asyncio
import importlib
from collections.abc import Coroutine
from typing import Any


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs `main` to its end: on uvloop where there is one, whose own work for each event is less."""
    with asyncio.Runner(loop_factory=_new_event_loop) as runner:
        runner.run(main)


def _new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        loop: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
    except ImportError:  # not on every platform
        loop = asyncio.new_event_loop()
    return loop
