"""Channels of the commands: with TLS and a token where the settings or arguments say so."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import grpc

from services.cli import exit_codes
from services.common.access_settings import OFF
from services.common.client_credentials import CredentialSettings
from services.common.setting import SettingsError
from services.common.settings import ClientSettings, load_settings

SYSTEM = "system"
AUTHORIZATION_KEY = "authorization"
Options = Sequence[tuple[str, str | int]]


def open_channel(address: str, options: Options, arguments: object = None) -> grpc.Channel:
    """A channel to a service. Raises CommandError when a file cannot be read or the settings do not fit."""
    settings = _settings(arguments)
    channel = _open(settings, address, list(options))
    if settings.token_file == OFF:
        return channel
    token = _read(settings.token_file).decode("utf-8", "replace").strip()
    return grpc.intercept_channel(channel, _BearerToken(token))


def _settings(arguments: object) -> CredentialSettings:
    """What the command line says goes before what the environment says."""
    try:
        settings = load_settings(ClientSettings)
    except SettingsError as error:
        raise exit_codes.CommandError(str(error), exit_codes.WRONG_USAGE) from None
    names = [field.name for field in fields(CredentialSettings)]
    given = {name: value for name in names if (value := getattr(arguments, name, None)) is not None}
    return replace(settings, **given)


def _open(settings: CredentialSettings, address: str, options: list[tuple[str, str | int]]) -> grpc.Channel:
    pair = (settings.client_tls_private_key, settings.client_tls_certificate)
    if settings.client_tls_ca == OFF:
        if pair != (OFF, OFF):
            raise exit_codes.CommandError(
                "a client certificate needs NAIAD_CLIENT_TLS_CA or --tls-ca", exit_codes.WRONG_USAGE
            )
        return grpc.insecure_channel(address, options=options)
    if OFF in pair and pair != (OFF, OFF):
        raise exit_codes.CommandError("a client certificate and its key go together", exit_codes.WRONG_USAGE)
    key, certificate = (None if path == OFF else _read(path) for path in pair)
    roots = None if settings.client_tls_ca == SYSTEM else _read(settings.client_tls_ca)
    if settings.client_tls_server_name != OFF:
        options.append(("grpc.ssl_target_name_override", settings.client_tls_server_name))
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(roots, key, certificate), options=options)


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise exit_codes.CommandError(f"{path} cannot be read: {error.strerror}", exit_codes.WRONG_USAGE) from None


class _Details(NamedTuple):
    """Implements grpc.ClientCallDetails."""

    method: str
    timeout: float | None
    metadata: Sequence[tuple[str, str | bytes]] | None
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: grpc.Compression | None


class _BearerToken(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the token to each call. gRPC's own call credentials would refuse to go over a channel without TLS."""

    def __init__(self, token: str) -> None:
        self._entry = (AUTHORIZATION_KEY, f"Bearer {token}")

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        return continuation(self._with_token(details), request)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        return continuation(self._with_token(details), requests)

    def _with_token(self, details: Any) -> _Details:
        metadata = [*(details.metadata or ()), self._entry]
        return _Details(
            details.method, details.timeout, metadata, details.credentials, details.wait_for_ready, details.compression
        )
