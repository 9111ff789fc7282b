"""The checker of histories: it accepts what may happen, and names what may not."""

import json
from pathlib import Path

import pytest

from tests.support.history import CallRecord, History, violations

ANSWERS = {"story": [5, 6, 7, 8]}


def ended(outcome: str, tokens: list[int], history: History | None = None) -> History:
    history = history or History()
    call = history.begin("stream", "story", deadline_s=10)
    call.add_tokens(tokens[:2])
    call.add_tokens(tokens[2:])
    call.end(outcome)
    return history


@pytest.mark.parametrize(
    ("outcome", "tokens"),
    [("OK", [5, 6, 7, 8]), ("UNAVAILABLE", []), ("UNAVAILABLE", [5, 6]), ("DEADLINE_EXCEEDED", [5, 6, 7, 8])],
)
def test_what_may_happen_is_accepted(outcome: str, tokens: list[int]) -> None:
    history = ended(outcome, tokens)
    assert violations(history, ANSWERS) == []
    assert history.outcomes() == history.outcomes("stream") == {outcome: 1}
    assert history.outcomes("unary") == {}


@pytest.mark.parametrize(
    ("outcome", "tokens", "complaint"),
    [
        ("OK", [5, 6, 7], "ended well with 3 of 4 tokens"),
        ("OK", [5, 6, 6, 7, 8], "ended well with 5 tokens, of which number 2 is 6, not 7"),
        ("OK", [5, 7, 8], "ended well with 3 tokens, of which number 1 is 7, not 6"),
        ("UNAVAILABLE", [5, 6, 6], "failed after 3 tokens, of which number 2 is 6, not 7"),
        ("UNAVAILABLE", [5, 6, 7, 8, 9], "failed after 5 of 4 tokens"),
        ("INTERNAL", [5], "ended with INTERNAL: "),
    ],
)
def test_lost_repeated_and_wrong_tokens_are_named(outcome: str, tokens: list[int], complaint: str) -> None:
    (line,) = violations(ended(outcome, tokens), ANSWERS)
    assert line == f"call 0 (stream) {complaint}"


def test_every_call_ends_exactly_once() -> None:
    history = ended("OK", [5, 6, 7, 8])
    history.calls[0].end("UNAVAILABLE")
    history.begin("unary")
    assert violations(history, ANSWERS) == [
        "call 0 (stream) ended 2 times: ['OK', 'UNAVAILABLE']",
        "call 1 (unary) ended 0 times: []",
    ]


def test_a_call_that_outlives_its_deadline_is_named() -> None:
    history = History()
    history.calls.append(CallRecord(0, "unary", None, 1.0, started_s=0.0, outcomes=["OK"], ended_s=9.0))
    assert violations(history, {}) == ["call 0 (unary) took 9.00 s; its deadline was 1.00 s"]


def test_only_the_allowed_statuses_pass() -> None:
    history = ended("UNAVAILABLE", [])
    assert violations(history, ANSWERS, allowed=()) == ["call 0 (stream) ended with UNAVAILABLE: "]


def test_a_history_can_be_read_again(tmp_path: Path) -> None:
    ended("OK", [5, 6, 7, 8]).write(tmp_path / "history.json")
    (call,) = json.loads((tmp_path / "history.json").read_text())
    assert (call["tokens"], call["outcomes"], len(call["token_times_s"])) == ([5, 6, 7, 8], ["OK"], 4)
