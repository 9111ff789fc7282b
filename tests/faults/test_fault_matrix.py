"""Every fault, at the service and at its Triton, while calls are in every state: what clients see is what is promised.

Two columns of one service and one Triton each: the first is hurt, the clients of the second must not notice. One
injection serves the calls of all three states. Detection times go to build/fault-matrix.json.
"""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from tests.support.cluster import FAST_RECONNECT, SERVING, ManagedService, ManagedTriton, started, supervised
from tests.support.engine_metrics import EngineMetrics
from tests.support.fault_proxy import FaultMode, FaultProxy
from tests.support.history import CallRecord, History, violations
from tests.support.recorded_calls import Question, SteadyCaller, ask, ask_stream
from tests.support.stack import REPOSITORY_ROOT
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

REPORT = REPOSITORY_ROOT / "build" / "fault-matrix.json"
SLOW_REPETITIONS = 20

# Slow enough that its requests are surely alive when the fault comes.
SPEC = DecoderSpec(context_length_tokens=1024, num_layers=24, eos_id=None)
PROMPT = [9, 4, 33, 12, 7]
LONG_TOKENS, SHORT_TOKENS = 600, 5
# One place more than the two that are under way when the third, which must wait, comes.
MODEL_PARAMETERS = {"intra_op_threads": "1", "max_active_requests": "2"}
STALL_S = 1.5
SETTINGS = {
    "NAIAD_TRITON_STALL_TIMEOUT_MS": str(int(1000 * STALL_S)),
    "NAIAD_DRAIN_NOTICE_MS": "100",
    # One of the calls has to wait, which would lower the limit of calls that are let in.
    "NAIAD_GENERATION_MIN_INFLIGHT_TOKENS": "65536",
}

DEADLINE_S = 4.0  # of calls that end only by it
LONG_DEADLINE_S = 60.0
AT_ONCE_S = 1.0
# What a busy machine may add.
SLACK_S = 1.5
RECOVERY_S = 30.0
ATTEMPTS = 5  # to have a call in each state

MOMENTS = ("unary", "before the first token", "mid-stream")
SIGNALS = {"SIGTERM": signal.SIGTERM, "SIGKILL": signal.SIGKILL, "SIGSTOP": signal.SIGSTOP}
NETWORK = {"reset": FaultMode.RESET, "blackhole": FaultMode.BLACKHOLE, "half-open": FaultMode.HALF_OPEN}


@dataclass(frozen=True)
class Promise:
    """How calls end that are in flight, and how soon after the fault; `within_s` None: whenever they are done."""

    outcome: str
    within_s: float | None
    deadline_s: float = LONG_DEADLINE_S


FINISHED = Promise("OK", None)
TOLD_AT_ONCE = Promise("UNAVAILABLE", AT_ONCE_S)
TOLD_BY_WATCHDOG = Promise("UNAVAILABLE", STALL_S)
NOBODY_TELLS = Promise("DEADLINE_EXCEEDED", DEADLINE_S, DEADLINE_S)
PROMISES = {
    ("service", "SIGTERM"): FINISHED,
    ("service", "SIGKILL"): TOLD_AT_ONCE,
    ("service", "SIGSTOP"): NOBODY_TELLS,
    ("service", "reset"): TOLD_AT_ONCE,
    ("service", "blackhole"): NOBODY_TELLS,
    ("service", "half-open"): NOBODY_TELLS,
    ("triton", "SIGTERM"): FINISHED,
    ("triton", "SIGKILL"): TOLD_AT_ONCE,
    ("triton", "SIGSTOP"): TOLD_BY_WATCHDOG,
    ("triton", "reset"): TOLD_AT_ONCE,
    ("triton", "blackhole"): TOLD_BY_WATCHDOG,
    ("triton", "half-open"): TOLD_BY_WATCHDOG,
}
TRITON_ENDS = {("triton", "SIGTERM"), ("triton", "SIGKILL")}


@dataclass
class Columns:
    """The two columns. `triton` and `service` are the ones to be hurt; each is reached through a proxy of its own."""

    triton: ManagedTriton
    service: ManagedService
    to_triton: FaultProxy
    to_service: FaultProxy
    other_service: ManagedService


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Columns]:
    folder: Path = tmp_path_factory.mktemp("matrix")
    models = folder / "models"
    make_decoder(models, "decoder", SPEC, MODEL_PARAMETERS)
    triton, other_triton = (ManagedTriton(name, models, folder) for name in ("triton", "other-triton"))
    with ExitStack() as stack:
        to_triton = stack.enter_context(FaultProxy(triton.address))
        service = ManagedService("generation", models, to_triton.address, folder / "service.log", SETTINGS)
        other = ManagedService("generation", models, other_triton.address, folder / "other-service.log", SETTINGS)
        to_service = stack.enter_context(FaultProxy(service.address))
        stack.enter_context(started(triton, other_triton, service, other))
        yield Columns(triton, service, to_triton, to_service, other)


class Injection:
    """One fault and its end."""

    def __init__(self, columns: Columns, target: str, fault: str) -> None:
        self._columns = columns
        self._fault = fault
        self._process = columns.service if target == "service" else columns.triton
        self._proxy = columns.to_service if target == "service" else columns.to_triton

    def begin(self) -> None:
        if self._fault in SIGNALS:
            self._process.send(SIGNALS[self._fault])
        else:
            self._proxy.set_mode(NETWORK[self._fault])

    def end(self) -> None:
        """What a supervisor or an administrator would do about it."""
        if self._fault in NETWORK:
            self._proxy.set_mode(FaultMode.PASS)
        elif self._fault == "SIGSTOP":
            self._process.send(signal.SIGCONT)
        else:
            code = self._process.wait()
            assert code == (0 if self._fault == "SIGTERM" else -signal.SIGKILL), self._process.log()[-2000:]
            self._process.start()


@dataclass
class Aftermath:
    """What was seen: the three calls by their moment, the other column's calls, and how long the recovery took."""

    target: str
    fault: str
    struck_s: float
    calls: dict[str, CallRecord]
    others: list[CallRecord]
    complaints: list[str]
    recovered_after_s: float
    triton_crashes: list[str]

    @property
    def promise(self) -> Promise:
        return PROMISES[self.target, self.fault]

    def ended_after_s(self, moment: str) -> float:
        """Seconds from the fault to the end of a call."""
        ended_s = self.calls[moment].ended_s
        assert ended_s is not None, f"the call {moment} has not ended"
        return ended_s - self.struck_s


def long_question(deadline_s: float) -> Question:
    return Question("decoder", PROMPT, LONG_TOKENS, deadline_s)


QUICK = Question("decoder", PROMPT, SHORT_TOKENS, deadline_s=20)
ANSWERS = {
    question.answer: expected_tokens(SPEC, question.prompt, question.max_tokens)
    for question in (QUICK, long_question(LONG_DEADLINE_S))
}


class TooLateError(AssertionError):
    """The machine was too busy to notice a state while it lasted."""


class CallsInEveryState:
    """Three calls: a stream that has begun, a unary call beside it, and a stream that waits behind both."""

    def __init__(self, columns: Columns, deadline_s: float, history: History, pool: ThreadPoolExecutor) -> None:
        self._triton = columns.triton
        self._history = history
        self._question = long_question(deadline_s)
        self._pool = pool
        self._futures: list[Future[None]] = []
        self.calls: dict[str, CallRecord] = {}

    def start(self, channel: grpc.Channel) -> None:
        """Returns once each is in its state."""
        begun = threading.Event()
        self._submit(ask_stream, channel, "mid-stream", begun)
        self._futures[0].add_done_callback(lambda _: begun.set())
        assert begun.wait(20), "the stream did not begin"
        assert self.calls["mid-stream"].tokens, f"the stream did not begin: {self.calls}"
        self._submit(ask, channel, "unary")
        self._wait_for_engine("naiad_num_requests_running", 2)
        self._submit(ask_stream, channel, "before the first token", threading.Event())
        self._wait_for_engine("naiad_num_requests_waiting", 1)

    def _submit(self, make, channel: grpc.Channel, moment: str, *more: threading.Event) -> None:
        call = self.calls[moment] = self._history.begin(moment, self._question.answer, self._question.deadline_s)
        self._futures.append(self._pool.submit(make, channel, self._question, call, *more))

    def _wait_for_engine(self, gauge: str, value: int) -> None:
        deadline = time.monotonic() + 20
        while EngineMetrics.parse(self._triton.metrics(), "decoder").total(gauge) < value:
            if any(future.done() for future in self._futures):
                raise TooLateError(f"a call ended before all were in their states: {self.calls}")
            assert time.monotonic() < deadline, f"{gauge} stays below {value}"

    def check_alive(self) -> None:
        """Fails unless all three are still in the state in which the fault was to find them."""
        assert not any(future.done() for future in self._futures), "a call ended before the fault"
        assert self.calls["before the first token"].tokens == [], "the third call did not wait"

    def wait(self) -> None:
        """Returns once all have ended."""
        for future in self._futures:
            future.result(timeout=LONG_DEADLINE_S)


def calls_in_every_state(
    columns: Columns, deadline_s: float, history: History, pool: ThreadPoolExecutor, channel: grpc.Channel
) -> CallsInEveryState:
    """Three calls, each in its state."""
    for attempt in range(1, ATTEMPTS + 1):
        states = CallsInEveryState(columns, deadline_s, history, pool)
        try:
            states.start(channel)
            break
        except TooLateError:
            states.wait()
            if attempt == ATTEMPTS:
                raise
    return states


def recovery_s(columns: Columns, channel: grpc.Channel, history: History) -> float:
    """Seconds until a client of the hurt column is served again, health included."""
    begun = time.monotonic()
    columns.triton.wait_ready()
    columns.service.wait_for(lambda status: status == SERVING, RECOVERY_S, columns.to_service.address)
    call = history.begin("after", QUICK.answer, RECOVERY_S)
    while not call.outcomes:
        grpc.channel_ready_future(channel).result(timeout=RECOVERY_S)
        attempt = History().begin("after", QUICK.answer, RECOVERY_S)
        ask(channel, QUICK, attempt)
        if attempt.outcome == "OK" or time.monotonic() - begun > RECOVERY_S:
            call.add_tokens(attempt.tokens)
            call.end(attempt.outcome, attempt.details)
    assert call.outcome == "OK", f"no recovery: {call.outcome} {call.details}"
    return time.monotonic() - begun


def cases() -> Iterator[object]:
    for repetition in range(SLOW_REPETITIONS):
        for target, fault in PROMISES:
            name = f"{target}-{fault}" + (f"-{repetition}" if repetition else "")
            # With its number: pytest makes a fixture once for all parameters that are equal.
            yield pytest.param((target, fault, repetition), id=name, marks=[pytest.mark.slow] if repetition else [])


@pytest.fixture(scope="module", params=cases())
def aftermath(request: pytest.FixtureRequest, columns: Columns) -> Aftermath:
    target, fault, _ = request.param
    history = History()
    with (
        supervised(columns.triton) if (target, fault) not in TRITON_ENDS else nullcontext([]) as crashes,
        grpc.insecure_channel(columns.to_service.address, options=FAST_RECONNECT) as channel,
        grpc.insecure_channel(columns.other_service.address, options=FAST_RECONNECT) as other_channel,
        ThreadPoolExecutor(3) as pool,
    ):
        states = calls_in_every_state(columns, PROMISES[target, fault].deadline_s, history, pool, channel)
        injection = Injection(columns, target, fault)
        with SteadyCaller(other_channel, QUICK, history) as others:
            states.check_alive()
            struck_s = time.monotonic()
            injection.begin()
            try:
                states.wait()
            finally:
                injection.end()
            recovered_after_s = recovery_s(columns, channel, history)
    complaints = violations(history, ANSWERS)
    seen = Aftermath(target, fault, struck_s, states.calls, others.calls, complaints, recovered_after_s, crashes)
    report(seen)
    return seen


def report(seen: Aftermath) -> None:
    """Adds what was measured to the report; it holds the latest run of each case."""
    figures = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    figures.setdefault(f"{seen.target} {seen.fault}", []).append(
        {
            "ended_after_s": {moment: round(seen.ended_after_s(moment), 3) for moment in MOMENTS},
            "outcomes": {moment: seen.calls[moment].outcome for moment in MOMENTS},
            "recovered_after_s": round(seen.recovered_after_s, 3),
            "triton_crashes": seen.triton_crashes,
            "calls_of_others": len(seen.others),
            "slowest_of_others_s": round(max(call.duration_s for call in seen.others), 3),
        }
    )
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(figures, indent=1) + "\n")


@pytest.fixture(scope="module", autouse=True)
def _new_report() -> None:
    REPORT.unlink(missing_ok=True)


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_call_ends_as_promised(aftermath: Aftermath, moment: str) -> None:
    call, promise = aftermath.calls[moment], aftermath.promise
    assert call.outcome == promise.outcome, call.details
    if promise.within_s is not None:
        assert aftermath.ended_after_s(moment) <= promise.within_s + SLACK_S
    if moment == "before the first token" and promise.outcome != "OK":
        assert call.tokens == []


def test_every_call_ends_once_and_no_token_is_lost_or_repeated(aftermath: Aftermath) -> None:
    assert aftermath.complaints == []


def test_other_clients_do_not_notice(aftermath: Aftermath) -> None:
    assert {call.outcome for call in aftermath.others} == {"OK"}
    assert max(call.duration_s for call in aftermath.others) < 5
