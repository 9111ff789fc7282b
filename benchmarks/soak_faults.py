"""Faults at regular times while a system is under load: parts are killed or frozen, connections are reset."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import grpc
import psutil

from tests.support.cluster import FAST_RECONNECT
from tests.support.fault_proxy import FaultProxy
from tests.support.stack import Stack

PERIOD_S = 30.0
FREEZE_S = 2.0
# Processes must live for a while if what they hold is to be judged: for so long either Triton is killed or services.
SEASON_S = 900.0
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


class FaultSchedule:
    """Which fault comes next, as (what is done, to which part): the kinds of a season equally often.

    Services are killed in the first, third, ... season, Triton in the others. Freezing and resetting go on in all.
    """

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._season = -1
        self._left: list[tuple[str, str]] = []

    def next(self, at_s: float) -> tuple[str, str]:
        """The fault at this time, in seconds from the start; times only grow."""
        season = int(at_s / SEASON_S)
        if season != self._season:
            self._season, self._left = season, []
        if not self._left:
            killed = ("triton",) if season % 2 else PARTS
            self._left = [("kill", part) for part in killed]
            self._left += [("freeze", part) for part in ("triton", *PARTS)]
            self._left += [("reset", part) for part in PARTS]
            self._chance.shuffle(self._left)
        return self._left.pop()


class FaultInjector(threading.Thread):
    """Injects one fault of a FaultSchedule each PERIOD_S until it is told to stop."""

    def __init__(self, stack: Stack, proxies: dict[str, FaultProxy], seed: int = 1) -> None:
        super().__init__()
        self._supervisor = psutil.Process(stack.process.pid)
        self._proxies = proxies
        self._schedule = FaultSchedule(random.Random(seed))
        self._done = threading.Event()
        self._begun_s = time.monotonic()
        self.injected: list[Fault] = []
        self.start()

    def run(self) -> None:
        actions: dict[str, Callable[[str], None]] = {"kill": self._kill, "freeze": self._freeze, "reset": self._reset}
        while not self._done.wait(PERIOD_S):
            at_s = time.monotonic() - self._begun_s
            action, part = self._schedule.next(at_s)
            self.injected.append(Fault(f"{action} {part}", at_s))
            # What is to be hurt may just be starting again.
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                actions[action](part)

    def stop(self) -> None:
        """Ends the faults; all that was frozen goes on."""
        self._done.set()
        self.join()

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
