"""Errors as gRPC statuses, and Triton's statuses as errors. The two tables here are the only such mappings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import ERROR_DOMAIN, NaiadError, Reason

STATUS_DETAILS_KEY = "grpc-status-details-bin"
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"
# Trailers share one 8 KiB metadata budget with everything else a proxy adds.
MAX_VIOLATIONS = 20
MAX_DESCRIPTION_CHARS = 200

STATUS_CODES: Mapping[Reason, grpc.StatusCode] = MappingProxyType(
    {
        Reason.INVALID_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
        Reason.MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
        Reason.WRONG_TASK: grpc.StatusCode.FAILED_PRECONDITION,
        Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.QUOTA_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
        Reason.ENGINE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
        Reason.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
        Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
        Reason.CLIENT_CANCELLED: grpc.StatusCode.CANCELLED,
        Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
        Reason.PERMISSION_DENIED: grpc.StatusCode.PERMISSION_DENIED,
        Reason.CONTENT_BLOCKED: grpc.StatusCode.INVALID_ARGUMENT,
        Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    }
)


def status_message(error: NaiadError, request_id: str, trace_id: str = "") -> status_pb2.Status:
    """The error as `google.rpc.Status` with ErrorInfo, and BadRequest or RetryInfo where they apply."""
    message = f"internal error, request id {request_id}" if error.reason is Reason.INTERNAL else error.message
    status = status_pb2.Status(code=STATUS_CODES[error.reason].value[0], message=_shorten(message))
    info = error_details_pb2.ErrorInfo(
        reason=error.reason.value, domain=ERROR_DOMAIN, metadata={"request_id": request_id}
    )
    if trace_id:
        info.metadata["trace_id"] = trace_id
    status.details.append(_packed(info))
    if error.field_violations:
        bad_request = error_details_pb2.BadRequest()
        for violation in error.field_violations[:MAX_VIOLATIONS]:
            bad_request.field_violations.add(field=violation.field, description=_shorten(violation.description))
        status.details.append(_packed(bad_request))
    if error.retry_after_ms is not None:
        status.details.append(_retry_info(error.retry_after_ms))
    return status


@lru_cache(maxsize=4096)
def _retry_info(retry_after_ms: int) -> AnyMessage:
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(retry_after_ms)
    return _packed(retry)


Trailers = tuple[tuple[str, str | bytes], ...]


def message_and_trailers(error: NaiadError, request_id: str, trace_id: str = "") -> tuple[str, Trailers]:
    """The text of the status, and trailing metadata with the rich status and, for OVERLOADED, gRPC's retry pushback."""
    status = status_message(error, request_id, trace_id)
    details = (STATUS_DETAILS_KEY, status.SerializeToString())
    if error.retry_after_ms is None:
        return status.message, (details,)
    return status.message, (details, (RETRY_PUSHBACK_KEY, str(error.retry_after_ms)))


def trailers(error: NaiadError, request_id: str, trace_id: str = "") -> Trailers:
    """The trailing metadata alone."""
    return message_and_trailers(error, request_id, trace_id)[1]


def _packed(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION_CHARS else text[: MAX_DESCRIPTION_CHARS - 1] + "…"


@dataclass(frozen=True)
class _TritonRule:
    """First rule that fits wins. `pattern` is searched in Triton's message, case ignored."""

    code: grpc.StatusCode
    pattern: str
    reason: Reason
    message: str


_ANY = ""
# Triton answers UNAVAILABLE for a full queue; passed on, it would make clients retry into the overload.
_TRITON_RULES: tuple[_TritonRule, ...] = (
    _TritonRule(
        grpc.StatusCode.UNAVAILABLE, r"maximum queue size|queue (is )?full", Reason.OVERLOADED, "the engine is full"
    ),
    _TritonRule(
        grpc.StatusCode.UNAVAILABLE, r"timeout expired", Reason.DEADLINE_EXCEEDED, "the request waited too long"
    ),
    _TritonRule(grpc.StatusCode.UNAVAILABLE, _ANY, Reason.ENGINE_UNAVAILABLE, "the engine cannot be reached"),
    # On a stream every code is UNKNOWN. A Triton that is about to end stops and unloads its models, and still answers.
    _TritonRule(
        grpc.StatusCode.UNKNOWN,
        r"request for unknown model|has no available versions|server exiting|server (is )?not ready|server is stopping"
        r"|stopped accepting new inference requests",
        Reason.ENGINE_UNAVAILABLE,
        "the engine has not loaded the model",
    ),
    _TritonRule(grpc.StatusCode.NOT_FOUND, _ANY, Reason.ENGINE_UNAVAILABLE, "the engine has not loaded the model"),
    _TritonRule(grpc.StatusCode.CANCELLED, _ANY, Reason.ENGINE_UNAVAILABLE, "the engine gave the request up"),
    _TritonRule(grpc.StatusCode.RESOURCE_EXHAUSTED, _ANY, Reason.OVERLOADED, "the engine is full"),
    _TritonRule(grpc.StatusCode.DEADLINE_EXCEEDED, _ANY, Reason.DEADLINE_EXCEEDED, "the deadline has passed"),
)

_STATUS_PREFIX = re.compile(r"^\[([A-Z_]+)\] ?")


def error_from_triton(code: grpc.StatusCode, message: str, retry_after_ms: int) -> NaiadError:
    """What a failure of Triton means to our client.

    Our backend starts messages with `[STATUS_NAME] `, which then wins over `code`. Its INVALID_ARGUMENT is about the
    request and is passed on; anything else that is not in the table is our bug and becomes INTERNAL.
    """
    prefix = _STATUS_PREFIX.match(message)
    named = grpc.StatusCode.__members__.get(prefix.group(1)) if prefix else None
    if named is not None and prefix is not None:
        code, message = named, message[prefix.end() :]
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return NaiadError(Reason.INVALID_FIELD, message)
    for rule in _TRITON_RULES:
        if rule.code is code and re.search(rule.pattern, message, re.IGNORECASE):
            pushback = retry_after_ms if rule.reason is Reason.OVERLOADED else None
            return NaiadError(rule.reason, rule.message, retry_after_ms=pushback)
    return NaiadError(Reason.INTERNAL, f"Triton answered {code.name}: {message}")
