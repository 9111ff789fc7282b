"""Failed calls as exceptions: one class for each reason of docs/contracts.md, section 4."""

from typing import Any

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.common.errors import ERROR_DOMAIN, FieldViolation, Reason


class CallError(grpc.RpcError):
    """A call failed. Also raised as such when the reason is not known to this client.

    `reason` is the service's own, None when the failure is gRPC's: the service was not reached, or a proxy answered.
    `retry_after_ms` is when the service wants to be asked again. `code()` and `details()` are those of gRPC.
    """

    def __init__(self, code: grpc.StatusCode, message: str, request_id: str) -> None:
        super().__init__(f"{code.name}: {message}")
        self._code = code
        self.message = message
        self.request_id = request_id
        self.reason: str | None = None
        self.retry_after_ms: int | None = None
        self.field_violations: tuple[FieldViolation, ...] = ()
        self.trace_id: str | None = None

    def code(self) -> grpc.StatusCode:
        """gRPC's status code."""
        return self._code

    def details(self) -> str:
        """gRPC's status message."""
        return self.message


class InvalidFieldError(CallError):
    """`field_violations` says which fields of the request are wrong, and why."""


class ModelNotFoundError(CallError):
    """No such model."""


class WrongTaskError(CallError):
    """The model is for something else."""


class OverloadedError(CallError):
    """Ask again after `retry_after_ms`."""


class QuotaExceededError(OverloadedError):
    """A limit of the caller's own is reached; without `retry_after_ms` the request alone is larger than a limit."""


class UnavailableError(CallError):
    """The service, or the engine behind it, cannot be reached or is shutting down."""


class DeadlineExceededError(CallError):
    """The call took longer than it was given."""


class CancelledError(CallError):
    """The client ended the call."""


class UnauthenticatedError(CallError):
    """No credentials, or wrong ones."""


class PermissionDeniedError(CallError):
    """The credentials do not permit this."""


class ContentBlockedError(CallError):
    """A safety rule refuses the prompt; `field_violations` says which part of it."""


class InternalError(CallError):
    """A bug of the service; its log has more under `request_id`."""


_BY_REASON: dict[str, type[CallError]] = {
    Reason.INVALID_FIELD: InvalidFieldError,
    Reason.MODEL_NOT_FOUND: ModelNotFoundError,
    Reason.WRONG_TASK: WrongTaskError,
    Reason.OVERLOADED: OverloadedError,
    Reason.QUOTA_EXCEEDED: QuotaExceededError,
    Reason.ENGINE_UNAVAILABLE: UnavailableError,
    Reason.SHUTTING_DOWN: UnavailableError,
    Reason.DEADLINE_EXCEEDED: DeadlineExceededError,
    Reason.CLIENT_CANCELLED: CancelledError,
    Reason.UNAUTHENTICATED: UnauthenticatedError,
    Reason.PERMISSION_DENIED: PermissionDeniedError,
    Reason.CONTENT_BLOCKED: ContentBlockedError,
    Reason.INTERNAL: InternalError,
}
# What gRPC itself answers with; its other codes say too little for a class.
_BY_CODE: dict[grpc.StatusCode, type[CallError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
    grpc.StatusCode.CANCELLED: CancelledError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
}


def error_of_call(error: Any, request_id: str) -> CallError:
    """The exception for a failed call of grpc or grpc.aio that had `request_id`."""
    try:
        status = rpc_status.from_call(error)
    except ValueError:
        status = None  # details that contradict the status are worth nothing
    if status is None:
        return _error_class(error.code(), None)(error.code(), error.details() or "no message", request_id)
    return error_of_status(status, request_id)


def error_of_status(status: status_pb2.Status, request_id: str = "") -> CallError:
    """The exception for a status, as failed items of a batch have it."""
    code = next((known for known in grpc.StatusCode if known.value[0] == status.code), grpc.StatusCode.UNKNOWN)
    info, bad_request, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), None
    for packed in status.details:
        if packed.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo()
            packed.Unpack(retry)
        else:
            packed.Unpack(info) or packed.Unpack(bad_request)
    reason = info.reason if info.domain == ERROR_DOMAIN else None
    found = _error_class(code, reason)(code, status.message, info.metadata.get("request_id", request_id))
    found.reason = reason
    found.trace_id = info.metadata.get("trace_id")
    found.retry_after_ms = None if retry is None else _milliseconds(retry.retry_delay)
    found.field_violations = tuple(
        FieldViolation(violation.field, violation.description) for violation in bad_request.field_violations
    )
    return found


def _error_class(code: grpc.StatusCode, reason: str | None) -> type[CallError]:
    if reason is not None:
        return _BY_REASON.get(reason, CallError)
    return _BY_CODE.get(code, CallError)


def _milliseconds(duration: Duration) -> int:
    return int(duration.seconds * 1000 + duration.nanos // 1_000_000)
