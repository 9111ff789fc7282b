import pytest

from services.common.admission import Admission
from services.common.errors import NaiadError, Reason


def overloaded() -> pytest.RaisesExc[NaiadError]:
    return pytest.raises(
        NaiadError, check=lambda error: error.reason is Reason.OVERLOADED and error.retry_after_ms == 7
    )


def test_tokens_in_flight_are_bounded_and_given_back() -> None:
    admission = Admission(max_requests=10, max_tokens=100, retry_after_ms=7)
    with admission.cost(60), overloaded(), admission.cost(41):
        raise AssertionError("admitted")
    with admission.cost(60), admission.cost(40), overloaded(), admission.request():
        raise AssertionError("admitted")
    assert (admission.requests, admission.tokens) == (0, 0)


def test_one_large_request_may_pass_alone() -> None:
    admission = Admission(max_requests=10, max_tokens=100, retry_after_ms=7)
    with admission.cost(1000), overloaded(), admission.cost(1):
        raise AssertionError("admitted")


def test_requests_in_flight_are_bounded_and_given_back_after_a_failure() -> None:
    admission = Admission(max_requests=1, max_tokens=100, retry_after_ms=7)
    with pytest.raises(ZeroDivisionError), admission.request():
        raise ZeroDivisionError
    with admission.request(), overloaded(), admission.request():
        raise AssertionError("admitted")
