"""Turns a failed call into one line for people and an exit code."""

import sys

import grpc
from google.rpc import status_pb2

from services import client
from services.cli import exit_codes
from services.cli.table import TEXT_WIDTH, shorten


def command_error(error: client.CallError, service: str, address: str) -> exit_codes.CommandError:
    """The exception that ends the command because `error` came from the call to `service` at `address`."""
    unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
    if unavailable and error.reason is None:
        return exit_codes.CommandError(
            f"the {service} service cannot be reached at {address}: is `naiad serve` running?", exit_codes.UNAVAILABLE
        )
    exit_code = exit_codes.UNAVAILABLE if unavailable else exit_codes.FAILED
    return exit_codes.CommandError(f"{service}: {_line(error)}", exit_code)


def item_error(status: status_pb2.Status) -> str:
    """One line about an item of a batch that failed."""
    return _line(client.error_of_status(status))


def print_item_error(text: str, status: status_pb2.Status) -> None:
    """Says on standard error which item of a batch failed, and why."""
    print(f"naiad: {shorten(text, TEXT_WIDTH)!r}: {item_error(status)}", file=sys.stderr)


def _line(error: client.CallError) -> str:
    violations = error.field_violations
    parts = [f"{item.field}: {item.description}" for item in violations if item.description not in error.message]
    if error.retry_after_ms is not None:
        parts.append(f"try again in {error.retry_after_ms / 1000:g} s")
    return "; ".join([f"{error.code().name}: {error.message}", *parts])
