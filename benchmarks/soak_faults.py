"""Faults at regular times while a system is under load: parts are killed or frozen, connections are reset."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import grpc
import psutil

from tests.support.cluster import FAST_RECONNECT
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import Stack

PERIOD_S = 30.0
FREEZE_S = 2.0
PARTS = ("generation", "classification")


@dataclass(frozen=True)
class Fault:
    """One that was injected, and when (seconds from the start of the load)."""

    kind: str
    at_s: float


@contextlib.contextmanager
def through_proxies(stack: Stack) -> Iterator[dict[str, FaultProxy]]:
    """Lets the clients of `stack` reach the services through proxies, by service."""
    with contextlib.ExitStack() as opened:
        proxies = {}
        for part in PARTS:
            proxies[part] = opened.enter_context(FaultProxy(stack.address(part)))
            stack.channels[part].close()
            stack.channels[part] = grpc.insecure_channel(proxies[part].address, options=FAST_RECONNECT)
        yield proxies


class FaultInjector(threading.Thread):
    """Injects one fault each PERIOD_S, every kind equally often, until it is told to stop."""

    def __init__(self, stack: Stack, proxies: dict[str, FaultProxy], seed: int = 1) -> None:
        super().__init__()
        self._supervisor = psutil.Process(stack.process.pid)
        self._proxies = proxies
        self._chance = random.Random(seed)
        self._done = threading.Event()
        self._begun_s = time.monotonic()
        self.injected: list[Fault] = []
        self.start()

    def run(self) -> None:
        kinds = self._kinds()
        names: list[str] = []
        while not self._done.wait(PERIOD_S):
            if not names:
                names = list(kinds)
                self._chance.shuffle(names)
            name = names.pop()
            self.injected.append(Fault(name, time.monotonic() - self._begun_s))
            # What is to be hurt may just be starting again.
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                kinds[name]()

    def stop(self) -> None:
        """Ends the faults; all that was frozen goes on."""
        self._done.set()
        self.join()

    def _kinds(self) -> dict[str, Callable[[], None]]:
        kinds: dict[str, Callable[[], None]] = {}
        for part in ("triton", *PARTS):
            kinds[f"kill {part}"] = partial(self._kill, part)
            kinds[f"freeze {part}"] = partial(self._freeze, part)
        for part in PARTS:
            kinds[f"reset {part}"] = partial(self._reset, part)
        return kinds

    def _kill(self, part: str) -> None:
        self._process(part).send_signal(signal.SIGKILL)

    def _reset(self, part: str) -> None:
        self._proxies[part].reset_connections()

    def _freeze(self, part: str) -> None:
        process = self._process(part)
        process.suspend()
        self._done.wait(FREEZE_S)
        process.resume()

    def _process(self, part: str) -> psutil.Process:
        wanted = "tritonserver" if part == "triton" else f"services.{part}"
        children = self._supervisor.children(recursive=True)
        return next(child for child in children if any(word.endswith(wanted) for word in child.cmdline()))
