"""What clients saw: every call, its one outcome, its tokens and times; and what must hold for all of it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

OK = "OK"
# Statuses with which a call may end when parts of the system fail. INTERNAL and UNKNOWN are bugs wherever they occur.
FAULT_STATUSES = frozenset({"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "CANCELLED"})
# A busy machine may hear of the end of a deadline late.
DEADLINE_SLACK_S = 2.0


@dataclass
class CallRecord:
    """One call. `answer` names what a fault-free system answers it with; calls with the same name get the same.

    `deadline_s` is how long it may take; times are of the monotonic clock. `outcomes` has one status name in the end.
    """

    number: int
    kind: str
    answer: str | None
    deadline_s: float | None
    started_s: float
    tokens: list[int] = field(default_factory=list)
    token_times_s: list[float] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    ended_s: float | None = None
    details: str = ""

    def add_tokens(self, tokens: Collection[int]) -> None:
        """Notes tokens that the client received."""
        self.tokens += tokens
        self.token_times_s += [time.monotonic()] * len(tokens)

    def end(self, outcome: str, details: str = "") -> None:
        """Notes the end of the call."""
        self.outcomes.append(outcome)
        self.ended_s = time.monotonic()
        self.details = details

    @property
    def outcome(self) -> str:
        """The status of a call that has ended."""
        return self.outcomes[-1]

    @property
    def duration_s(self) -> float:
        """Time from start to end, of a call that has ended."""
        assert self.ended_s is not None, f"call {self.number} has not ended"
        return self.ended_s - self.started_s


class History:
    """All calls of a run. May be used from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.calls: list[CallRecord] = []

    def begin(self, kind: str, answer: str | None = None, deadline_s: float | None = None) -> CallRecord:
        """A new call that is sent now."""
        with self._lock:
            call = CallRecord(len(self.calls), kind, answer, deadline_s, time.monotonic())
            self.calls.append(call)
        return call

    def outcomes(self, kind: str | None = None) -> Counter[str]:
        """How often each outcome occurred."""
        return Counter(outcome for call in self.calls if kind in (None, call.kind) for outcome in call.outcomes)

    def write(self, path: Path) -> None:
        """Writes all calls as JSON, to look at after a failure."""
        path.write_text(json.dumps([vars(call) for call in self.calls]), encoding="utf-8")


def violations(
    history: History, answers: Mapping[str, Sequence[int]], allowed: Collection[str] = FAULT_STATUSES
) -> list[str]:
    """What is wrong with a history, one line each; empty when all invariants hold.

    Every call ends once, with OK or an `allowed` status, in time. Tokens are neither lost nor repeated nor other ones:
    a call that ended well has all of its answer in `answers`, one that failed has a beginning of it.
    """
    return [line for call in history.calls for line in _violations_of(call, answers, allowed)]


def _violations_of(call: CallRecord, answers: Mapping[str, Sequence[int]], allowed: Collection[str]) -> list[str]:
    name = f"call {call.number} ({call.kind})"
    if len(call.outcomes) != 1:
        return [f"{name} ended {len(call.outcomes)} times: {call.outcomes}"]
    wrong = []
    if call.outcome != OK and call.outcome not in allowed:
        wrong.append(f"{name} ended with {call.outcome}: {call.details}")
    if call.deadline_s is not None and call.duration_s > call.deadline_s + DEADLINE_SLACK_S:
        wrong.append(f"{name} took {call.duration_s:.2f} s; its deadline was {call.deadline_s:.2f} s")
    if call.answer is None:
        return wrong
    expected = list(answers[call.answer])
    if call.outcome == OK and call.tokens != expected:
        wrong.append(f"{name} ended well with {_difference(call.tokens, expected)}")
    if call.outcome != OK and call.tokens != expected[: len(call.tokens)]:
        wrong.append(f"{name} failed after {_difference(call.tokens, expected)}")
    return wrong


def _difference(tokens: Sequence[int], expected: Sequence[int]) -> str:
    same = next((i for i, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1]), None)
    if same is None:
        return f"{len(tokens)} of {len(expected)} tokens"
    return f"{len(tokens)} tokens, of which number {same} is {tokens[same]}, not {expected[same]}"
