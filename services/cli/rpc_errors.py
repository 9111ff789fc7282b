"""Turns a failed call into one line for people and an exit code."""

import sys

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from services.cli import exit_codes
from services.cli.table import TEXT_WIDTH, shorten


def command_error(error: grpc.Call, service: str, address: str) -> exit_codes.CommandError:
    """The exception that ends the command because `error` came from the call to `service` at `address`."""
    code: grpc.StatusCode = error.code()
    status = rpc_status.from_call(error)
    if code is grpc.StatusCode.UNAVAILABLE and status is None:
        return exit_codes.CommandError(
            f"the {service} service cannot be reached at {address}: is `naiad serve` running?", exit_codes.UNAVAILABLE
        )
    exit_code = exit_codes.UNAVAILABLE if code is grpc.StatusCode.UNAVAILABLE else exit_codes.FAILED
    message = error.details() or "no message"
    hints = _details(status, message) if status is not None else []
    return exit_codes.CommandError("; ".join([f"{service}: {code.name}: {message}", *hints]), exit_code)


def item_error(status: status_pb2.Status) -> str:
    """One line about an item of a batch that failed."""
    code = next((known.name for known in grpc.StatusCode if known.value[0] == status.code), str(status.code))
    return "; ".join([f"{code}: {status.message}", *_details(status, status.message)])


def print_item_error(text: str, status: status_pb2.Status) -> None:
    """Says on standard error which item of a batch failed, and why."""
    print(f"naiad: {shorten(text, TEXT_WIDTH)!r}: {item_error(status)}", file=sys.stderr)


def _details(status: status_pb2.Status, message: str) -> list[str]:
    """What the details of a status add to its message."""
    lines = []
    for packed in status.details:
        bad_request = error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if packed.Unpack(bad_request):
            violations = bad_request.field_violations
            lines += [f"{item.field}: {item.description}" for item in violations if item.description not in message]
        elif packed.Unpack(retry):
            lines.append(f"try again in {_seconds(retry.retry_delay):g} s")
    return lines


def _seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1e9
