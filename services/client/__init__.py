"""Python client of naiad's services: deadlines, retries where they are safe, several servers, typed errors.

    from services import client

    with client.connect("127.0.0.1:50053") as naiad:
        response = naiad.classify(model="sentiment", texts=["A gem."])

`service_config.json` in this folder is the published gRPC service config, for clients in any language.
"""

from collections.abc import Sequence
from typing import Any

import grpc

from services.client.aio_calls import AioCheckedChannel, open_aio_channel
from services.client.aio_client import AioClient
from services.client.calls import CallDefaults, CheckedChannel, open_channel
from services.client.errors import (
    CallError,
    CancelledError,
    ContentBlockedError,
    DeadlineExceededError,
    InternalError,
    InvalidFieldError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    QuotaExceededError,
    UnauthenticatedError,
    UnavailableError,
    WrongTaskError,
    error_of_status,
)
from services.client.options import (
    Options,
    Tls,
    channel_arguments,
    service_config_json,
    target_uri,
    token_metadata,
)
from services.client.sync_client import Client

__all__ = [
    "AioClient",
    "CallError",
    "CancelledError",
    "Client",
    "ContentBlockedError",
    "DeadlineExceededError",
    "InternalError",
    "InvalidFieldError",
    "ModelNotFoundError",
    "Options",
    "OverloadedError",
    "PermissionDeniedError",
    "QuotaExceededError",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "WrongTaskError",
    "connect",
    "connect_aio",
    "error_of_status",
    "service_config_json",
]
_DEFAULTS = Options()


def connect(
    target: str | Sequence[str], *, token: str | None = None, tls: Tls | None = None, options: Options = _DEFAULTS
) -> Client:
    """A client; it connects with the first call. See `connect_aio`."""
    uri, credentials, arguments = _parts(target, tls, options)
    return Client(CheckedChannel(open_channel(uri, credentials, arguments), _call_defaults(token, options)))


def connect_aio(
    target: str | Sequence[str], *, token: str | None = None, tls: Tls | None = None, options: Options = _DEFAULTS
) -> AioClient:
    """A client for asyncio. `target` is HOST:PORT, a gRPC URI such as `dns:///NAME:PORT`, or several IP:PORT.

    Calls go round the servers behind the target. `token` is sent as a bearer token: without `tls` anybody on the way
    can read it. Raises ValueError for a wrong target, OSError for a PEM file that cannot be read.
    """
    uri, credentials, arguments = _parts(target, tls, options)
    return AioClient(AioCheckedChannel(open_aio_channel(uri, credentials, arguments), _call_defaults(token, options)))


def _parts(
    target: str | Sequence[str], tls: Tls | None, options: Options
) -> tuple[str, grpc.ChannelCredentials | None, tuple[tuple[str, Any], ...]]:
    arguments = channel_arguments(options)
    if tls is None:
        return target_uri(target), None, arguments
    return target_uri(target), tls.credentials(), (*arguments, *tls.arguments())


def _call_defaults(token: str | None, options: Options) -> CallDefaults:
    return CallDefaults(options.timeout_s, options.stream_timeout_s, token_metadata(token))
