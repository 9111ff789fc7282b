"""Calls to the services, as any client makes them."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from services import client
from services.cli import rpc_errors
from services.cli.credentials import Credentials, credentials_of, unreadable

# One server: its own error says more than that gRPC finds nobody healthy.
_OPTIONS = client.Options(health_checks=False, stream_timeout_s=None)
_NOBODY = Credentials()


@dataclass(frozen=True)
class Connection:
    """An open channel to one service."""

    channel: grpc.Channel
    timeout_s: float


def open_client(address: str, credentials: Credentials = _NOBODY, options: client.Options = _OPTIONS) -> client.Client:
    """A client of the server at `address`. Raises CommandError for a certificate that cannot be read."""
    try:
        return client.connect(address, token=credentials.token, tls=credentials.tls, options=options)
    except OSError as error:
        raise unreadable(error.filename, error) from None


@contextlib.contextmanager
def connect(service: str, address: str, arguments: argparse.Namespace) -> Iterator[Connection]:
    """A channel to the service, with the command's credentials and timeout.

    A failed call inside the block ends the command with one line about it.
    """
    with open_client(address, credentials_of(arguments)) as opened:
        try:
            yield Connection(opened.channel, arguments.timeout)
        except client.CallError as error:
            raise rpc_errors.command_error(error, service, address) from error
