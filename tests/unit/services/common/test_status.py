import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import FieldViolation, NaiadError, Reason, Violations, invalid_field
from services.common.status import MAX_VIOLATIONS, STATUS_CODES, error_from_triton, status_message, trailers


def details(status: status_pb2.Status, kind: type) -> list:
    found = []
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            found.append(message)
    return found


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_status_with_error_info(reason: Reason) -> None:
    status = status_message(NaiadError(reason, "secret or not"), "id-1")
    assert status.code == STATUS_CODES[reason].value[0]
    (info,) = details(status, error_details_pb2.ErrorInfo)
    assert (info.reason, info.domain, dict(info.metadata)) == (reason.value, "naiad", {"request_id": "id-1"})


def test_internal_errors_tell_the_request_id_and_nothing_else() -> None:
    status = status_message(NaiadError(Reason.INTERNAL, "secret"), "id-1")
    assert status.message == "internal error, request id id-1"
    assert b"secret" not in status.SerializeToString()


def test_all_violations_are_reported_at_once() -> None:
    violations = Violations()
    violations.require(True, "good", "fine")
    violations.require(False, "a", "wrong")
    violations.add("b", "worse")
    with pytest.raises(NaiadError) as caught:
        violations.raise_if_any()
    (bad_request,) = details(status_message(caught.value, "i"), error_details_pb2.BadRequest)
    assert [(v.field, v.description) for v in bad_request.field_violations] == [("a", "wrong"), ("b", "worse")]
    assert caught.value.message == "a: wrong (and 1 more)"


def test_overload_asks_for_a_later_retry_in_both_ways() -> None:
    error = NaiadError(Reason.OVERLOADED, "full", retry_after_ms=1500)
    (retry,) = details(status_message(error, "i"), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == 1500
    assert dict(trailers(error, "i"))["grpc-retry-pushback-ms"] == "1500"
    assert "grpc-retry-pushback-ms" not in dict(trailers(invalid_field("a", "b"), "i"))


def test_the_status_fits_into_metadata_however_much_is_wrong() -> None:
    violations = [FieldViolation(f"texts[{i}]", "x" * 10_000) for i in range(10_000)]
    status = status_message(NaiadError(Reason.INVALID_FIELD, "y" * 10_000, violations), "i" * 64)
    (bad_request,) = details(status, error_details_pb2.BadRequest)
    assert len(bad_request.field_violations) == MAX_VIOLATIONS
    assert status.ByteSize() < 6000


@pytest.mark.parametrize(
    ("code", "message", "reason"),
    [
        (grpc.StatusCode.UNAVAILABLE, "Exceeds maximum queue size", Reason.OVERLOADED),
        (
            grpc.StatusCode.UNKNOWN,
            "Request for unknown model: 'chat' has no available versions",
            Reason.ENGINE_UNAVAILABLE,
        ),
        (
            grpc.StatusCode.UNKNOWN,
            "[request id: 7] Server is stopping, scheduler for model has stopped accepting new inference requests",
            Reason.ENGINE_UNAVAILABLE,
        ),
        (grpc.StatusCode.UNKNOWN, "[request id: 7] Server not ready", Reason.ENGINE_UNAVAILABLE),
        (grpc.StatusCode.UNAVAILABLE, "Request timeout expired", Reason.DEADLINE_EXCEEDED),
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", Reason.ENGINE_UNAVAILABLE),
        (grpc.StatusCode.UNKNOWN, "[RESOURCE_EXHAUSTED] inbox is full", Reason.OVERLOADED),
        (grpc.StatusCode.UNKNOWN, "[UNAVAILABLE] shutting down", Reason.ENGINE_UNAVAILABLE),
        (grpc.StatusCode.INTERNAL, "[INVALID_ARGUMENT] too long for the cache", Reason.INVALID_FIELD),
        (grpc.StatusCode.UNKNOWN, "[NO_SUCH_STATUS] what", Reason.INTERNAL),
        (grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input", Reason.INTERNAL),
    ],
)
def test_triton_messages_become_our_reasons(code: grpc.StatusCode, message: str, reason: Reason) -> None:
    assert error_from_triton(code, message, 500).reason is reason


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_status_of_triton_is_mapped_and_only_overload_asks_for_a_retry(code: grpc.StatusCode) -> None:
    expected = {
        grpc.StatusCode.UNAVAILABLE: Reason.ENGINE_UNAVAILABLE,
        grpc.StatusCode.NOT_FOUND: Reason.ENGINE_UNAVAILABLE,
        grpc.StatusCode.CANCELLED: Reason.ENGINE_UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.OVERLOADED,
        grpc.StatusCode.DEADLINE_EXCEEDED: Reason.DEADLINE_EXCEEDED,
    }
    error = error_from_triton(code, "text of Triton", 500)
    assert error.reason is expected.get(code, Reason.INTERNAL)
    assert error.retry_after_ms == (500 if error.reason is Reason.OVERLOADED else None)
    assert b"text of Triton" not in status_message(error, "i").SerializeToString()
