from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from services.common.adaptive_limit import LimitOptions
from services.common.admission import Admission, AdmissionOptions, Ticket, set_current_ticket
from services.common.errors import NaiadError, Reason

CLASSIFY, EXPLAIN = "/naiad.v1.ClassificationService/Classify", "/naiad.v1.ClassificationService/Explain"


def overloaded() -> pytest.RaisesExc[NaiadError]:
    return pytest.raises(
        NaiadError, check=lambda error: error.reason is Reason.OVERLOADED and error.retry_after_ms is not None
    )


def make(max_requests: int = 10, max_tokens: int = 100, model_tokens: int | None = None) -> Admission:
    limit = None if model_tokens is None else LimitOptions(1, model_tokens, model_tokens, target_s=0.1)
    return Admission(AdmissionOptions(max_requests, max_tokens, 500, 10_000, limit))


@contextmanager
def entered(admission: Admission, size_bytes: int, model: str | None = "m", method: str = CLASSIFY) -> Iterator[Ticket]:
    """A call that came through the door, as the current one."""
    ticket = admission.enter(method, model, size_bytes)
    set_current_ticket(ticket)
    try:
        yield ticket
    finally:
        ticket.release()


def test_tokens_in_flight_are_bounded_and_given_back() -> None:
    admission = make()
    with admission.cost(60), overloaded(), admission.cost(41):
        raise AssertionError("admitted")
    with admission.cost(60), admission.cost(40), overloaded(), admission.request():
        raise AssertionError("admitted")
    assert (admission.requests, admission.tokens) == (0, 0)


def test_one_large_request_may_pass_alone() -> None:
    admission = make(model_tokens=50)
    with admission.cost(1000), overloaded(), admission.cost(1):
        raise AssertionError("admitted")
    with entered(admission, 4_000), overloaded():
        admission.enter(CLASSIFY, "m", 4)


def test_requests_in_flight_are_bounded_and_given_back_after_a_failure() -> None:
    admission = make(max_requests=1)
    with pytest.raises(ZeroDivisionError), admission.request():
        raise ZeroDivisionError
    with admission.request(), overloaded(), admission.request():
        raise AssertionError("admitted")
    with entered(admission, 4), overloaded():
        admission.enter(CLASSIFY, "m", 4)
    assert (admission.requests, admission.tokens) == (0, 0)


def test_a_call_is_admitted_by_its_size_and_then_costs_what_it_really_does() -> None:
    admission = make()
    with entered(admission, 80) as ticket:
        assert (admission.requests, admission.tokens, ticket.tokens) == (1, 20, 20)
        with admission.request():  # it is counted already
            assert admission.requests == 1
        admission.reserve(60)
        assert admission.tokens == admission.models["m"].tokens == 60
        with overloaded():
            admission.enter(CLASSIFY, "m", 164)
        with admission.cost(30):
            assert admission.tokens == admission.models["m"].tokens == 30
        assert admission.tokens == 0
    assert (admission.requests, admission.tokens, admission.models["m"].tokens) == (0, 0, 0)


def test_a_refused_reservation_or_cost_leaves_what_was_held_until_the_call_ends() -> None:
    admission = make()
    other = admission.enter(CLASSIFY, "m", 200)
    with entered(admission, 80):
        with overloaded():
            admission.reserve(51)
        with overloaded(), admission.cost(51):
            raise AssertionError("admitted")
        assert admission.tokens == 70
    other.release()
    assert admission.tokens == 0


def test_a_full_model_does_not_keep_calls_from_another() -> None:
    admission = make(model_tokens=30)
    with entered(admission, 100, "busy"):
        with overloaded():
            admission.enter(CLASSIFY, "busy", 100)
        admission.enter(CLASSIFY, "idle", 100).release()
        admission.enter(CLASSIFY, None, 100).release()


def test_a_large_call_finds_room_among_small_ones() -> None:
    admission = make(max_tokens=1_000_000, model_tokens=100)
    small = [admission.enter(CLASSIFY, "m", 40) for _ in range(7)]
    with entered(admission, 4_000):
        assert admission.models["m"].tokens == 70 + 1_000
        with overloaded():
            admission.enter(CLASSIFY, "m", 4)
    for ticket in small:
        ticket.release()


def test_the_estimate_learns_what_calls_of_a_method_cost() -> None:
    admission = make(max_tokens=1_000_000)
    for _ in range(200):
        with entered(admission, 100, method=EXPLAIN), admission.cost(5_000):
            pass
    explain, classify = (admission.enter(method, "m", 100) for method in (EXPLAIN, CLASSIFY))
    assert explain.tokens == pytest.approx(5_000, rel=0.02)
    assert classify.tokens == 25
    explain.release()
    classify.release()


def test_long_waits_lower_the_limit_of_their_model_only() -> None:
    admission = Admission(AdmissionOptions(100, 1_000, 500, 10_000, LimitOptions(10, 1_000, 1_000, target_s=0.001)))
    waited = admission.models
    for model in ("slow", "fast"):
        with entered(admission, 400, model):
            limit = waited[model].limit
            assert limit is not None
            limit._window_began_s -= 10  # the window's time is over with the next wait
            admission.observe_wait(1.0 if model == "slow" else 0.0)
    slow, fast = (waited[model].limit for model in ("slow", "fast"))
    assert slow is not None and fast is not None
    assert slow.tokens < 100 and fast.tokens == 1_000


async def test_waits_beside_bulk_streams_say_nothing_about_calls() -> None:
    admission = Admission(AdmissionOptions(100, 1_000, 500, 10_000, LimitOptions(10, 1_000, 1_000, target_s=0.001)))
    async with admission.bulk_cost(10):
        with entered(admission, 400):
            limit = admission.models["m"].limit
            assert limit is not None
            limit._window_began_s -= 10
            admission.observe_wait(1.0)
            assert limit.tokens == 1_000
