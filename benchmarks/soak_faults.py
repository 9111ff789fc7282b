"""Faults at regular times while a system is under load: parts are killed or frozen, connections are reset."""

import contextlib
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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


class FaultInjector(threading.Thread):
    """Injects one fault each PERIOD_S until it is told to stop, the kinds of a season equally often.

    Services are killed in the first, third, ... season, Triton in the others. Freezing and resetting go on in all.
    """

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
        seasons = [self._kinds(PARTS), self._kinds(("triton",))]
        names: list[str] = []
        season = -1
        while not self._done.wait(PERIOD_S):
            at_s = time.monotonic() - self._begun_s
            if season != int(at_s / SEASON_S):
                season, names = int(at_s / SEASON_S), []
            kinds = seasons[season % len(seasons)]
            if not names:
                names = list(kinds)
                self._chance.shuffle(names)
            name = names.pop()
            self.injected.append(Fault(name, at_s))
            # What is to be hurt may just be starting again.
            with contextlib.suppress(psutil.NoSuchProcess, StopIteration):
                kinds[name]()

    def stop(self) -> None:
        """Ends the faults; all that was frozen goes on."""
        self._done.set()
        self.join()

    def _kinds(self, killed: Sequence[str]) -> dict[str, Callable[[], None]]:
        kinds: dict[str, Callable[[], None]] = {f"kill {part}": partial(self._kill, part) for part in killed}
        kinds |= {f"freeze {part}": partial(self._freeze, part) for part in ("triton", *PARTS)}
        return kinds | {f"reset {part}": partial(self._reset, part) for part in PARTS}

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
