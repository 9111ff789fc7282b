"""Calls to the services, as any client makes them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from services import client
from services.cli import rpc_errors

# One server: its own error says more than that gRPC finds nobody healthy.
_OPTIONS = client.Options(health_checks=False, stream_timeout_s=None)


@dataclass(frozen=True)
class Connection:
    """An open channel to one service."""

    channel: grpc.Channel
    timeout_s: float


def open_client(address: str, options: client.Options = _OPTIONS) -> client.Client:
    """A client of the server at `address`."""
    return client.connect(address, options=options)


@contextlib.contextmanager
def connect(service: str, address: str, timeout_s: float) -> Iterator[Connection]:
    """A channel to the service; a failed call inside the block ends the command with one line about it."""
    with open_client(address) as opened:
        try:
            yield Connection(opened.channel, timeout_s)
        except client.CallError as error:
            raise rpc_errors.command_error(error, service, address) from error
