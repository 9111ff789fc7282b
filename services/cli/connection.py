"""Calls to the services, as any gRPC client makes them."""

import argparse
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from services.cli import rpc_errors
from services.cli.credentials import open_channel

# Vectors of all tokens of many texts are larger than gRPC's 4 MiB.
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Connection:
    """An open channel to one service."""

    channel: grpc.Channel
    timeout_s: float


@contextlib.contextmanager
def connect(service: str, address: str, arguments: argparse.Namespace) -> Iterator[Connection]:
    """A channel to the service, with the command's credentials and timeout.

    A failed call inside the block ends the command with one line about it.
    """
    with open_channel(address, CHANNEL_OPTIONS, arguments) as channel:
        try:
            yield Connection(channel, arguments.timeout)
        except grpc.RpcError as error:
            # gRPC raises objects that are both; their types do not tell.
            if not isinstance(error, grpc.Call):
                raise
            raise rpc_errors.command_error(error, service, address) from error
