"""TLS between the services and Triton: settings of both ends, and the services' end of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from services.common.access_settings import OFF
from services.common.setting import SettingsError, setting

Options = Sequence[tuple[str, str | int]]


@dataclass(frozen=True)
class TritonTlsSettings:
    """How Triton is called. Files are read when a process starts."""

    triton_tls_ca: str = setting(
        OFF,
        "TRITON_TLS_CA",
        doc="PEM file with the authorities that sign Triton's certificate; `off`: no TLS.",
    )
    triton_tls_certificate: str = setting(
        OFF, "TRITON_TLS_CERTIFICATE", doc="PEM file with the certificate to show to Triton (mutual TLS)."
    )
    triton_tls_private_key: str = setting(OFF, "TRITON_TLS_PRIVATE_KEY", doc="PEM file with the key of it.")
    triton_tls_server_name: str = setting(
        OFF, "TRITON_TLS_SERVER_NAME", doc="Name that Triton's certificate must have; `off`: the host that is called."
    )


@dataclass(frozen=True)
class TritonServerTlsSettings:
    """What the Triton of `naiad serve` shows and asks for. Files are read when Triton starts."""

    triton_server_certificate: str = setting(
        OFF, "TRITON_SERVER_CERTIFICATE", doc="PEM file with the certificate of Triton's gRPC port; `off`: no TLS."
    )
    triton_server_private_key: str = setting(
        OFF, "TRITON_SERVER_PRIVATE_KEY", doc="PEM file with the private key of it."
    )
    triton_client_ca: str = setting(
        OFF,
        "TRITON_CLIENT_CA",
        doc="PEM file with the authorities that sign certificates of who calls Triton; with it they must show one.",
    )

    def triton_tls_arguments(self) -> tuple[str, ...]:
        """Tritonserver's part of the command line; none without TLS. Raises SettingsError."""
        named = (self.triton_server_certificate, self.triton_server_private_key)
        if named == (OFF, OFF):
            if self.triton_client_ca != OFF:
                raise SettingsError("NAIAD_TRITON_CLIENT_CA needs NAIAD_TRITON_SERVER_CERTIFICATE")
            return ()
        if OFF in named:
            raise SettingsError("NAIAD_TRITON_SERVER_CERTIFICATE and NAIAD_TRITON_SERVER_PRIVATE_KEY go together")
        certificate, key = (Path(path).resolve() for path in named)
        pair = (f"--grpc-server-cert={certificate}", f"--grpc-server-key={key}")
        if self.triton_client_ca == OFF:
            return ("--grpc-use-ssl=true", *pair)
        return ("--grpc-use-ssl-mutual=true", *pair, f"--grpc-root-cert={Path(self.triton_client_ca).resolve()}")


@dataclass(frozen=True)
class TritonTls:
    """What a channel to Triton needs. Made once a process."""

    credentials: grpc.ChannelCredentials
    options: Options

    @classmethod
    def of(cls, settings: TritonTlsSettings) -> "TritonTls | None":
        """What the settings say; None without TLS. Raises SettingsError."""
        pair = (settings.triton_tls_private_key, settings.triton_tls_certificate)
        if settings.triton_tls_ca == OFF:
            if pair != (OFF, OFF):
                raise SettingsError("a certificate for Triton needs NAIAD_TRITON_TLS_CA")
            return None
        if OFF in pair and pair != (OFF, OFF):
            raise SettingsError("NAIAD_TRITON_TLS_CERTIFICATE and NAIAD_TRITON_TLS_PRIVATE_KEY go together")
        key, certificate = (None if path == OFF else _read(path) for path in pair)
        name = settings.triton_tls_server_name
        options = () if name == OFF else (("grpc.ssl_target_name_override", name),)
        return cls(grpc.ssl_channel_credentials(_read(settings.triton_tls_ca), key, certificate), options)


def open_triton_channel(address: str, options: Options, tls: TritonTls | None) -> Any:
    """A channel (grpc.aio) to the Triton at `address`."""
    if tls is None:
        return grpc.aio.insecure_channel(address, options=list(options))
    return grpc.aio.secure_channel(address, tls.credentials, options=[*options, *tls.options])


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
