"""Calls to the services, as any gRPC client makes them."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import grpc

from services.cli import rpc_errors

# Vectors of all tokens of many texts are larger than gRPC's 4 MiB.
CHANNEL_OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


@dataclass(frozen=True)
class Connection:
    """An open channel to one service."""

    channel: grpc.Channel
    timeout_s: float


@contextlib.contextmanager
def connect(service: str, address: str, timeout_s: float) -> Iterator[Connection]:
    """A channel to the service; a failed call inside the block ends the command with one line about it."""
    with grpc.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        try:
            yield Connection(channel, timeout_s)
        except grpc.RpcError as error:
            # gRPC raises objects that are both; their types do not tell.
            if not isinstance(error, grpc.Call):
                raise
            raise rpc_errors.command_error(error, service, address) from error
