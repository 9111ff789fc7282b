"""The certificate of a service: read from files, checked, and replaced while the service runs.

gRPC asks for the certificate at each handshake, so that new connections get the new one and old ones go on undisturbed.
"""

import logging
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes

from services.common.access_settings import OFF, AccessSettings
from services.common.file_watch import FileWatch, stamp_of
from services.common.reload_metrics import ReloadMetrics

_FILE_LABEL = "certificate"
_log = logging.getLogger(__name__)


class CertificateError(ValueError):
    """A certificate cannot be used. The message is one line."""


@dataclass(frozen=True)
class CertificateFiles:
    """Paths of PEM files; without `client_ca` clients need no certificate."""

    certificate: Path
    private_key: Path
    client_ca: Path | None

    @classmethod
    def of(cls, settings: AccessSettings) -> "CertificateFiles | None":
        """The files that the settings name; None without TLS. Raises CertificateError when some are missing."""
        named = {
            "NAIAD_TLS_CERTIFICATE": settings.tls_certificate,
            "NAIAD_TLS_PRIVATE_KEY": settings.tls_private_key,
            "NAIAD_TLS_CLIENT_CA": settings.tls_client_ca,
        }
        given = [variable for variable, path in named.items() if path != OFF]
        if not given:
            if settings.metrics_tls:
                raise CertificateError("NAIAD_METRICS_TLS needs NAIAD_TLS_CERTIFICATE and NAIAD_TLS_PRIVATE_KEY")
            return None
        for variable in ("NAIAD_TLS_CERTIFICATE", "NAIAD_TLS_PRIVATE_KEY"):
            if variable not in given:
                raise CertificateError(f"{given[0]} is set, but {variable} is not")
        client_ca = None if settings.tls_client_ca == OFF else Path(settings.tls_client_ca)
        return cls(Path(settings.tls_certificate), Path(settings.tls_private_key), client_ca)

    def paths(self) -> list[Path]:
        """All of them."""
        return [path for path in (self.certificate, self.private_key, self.client_ca) if path is not None]


@dataclass(frozen=True)
class Certificate:
    """What was read: PEM texts that fit each other. `expires_s` is in seconds since 1970."""

    chain: bytes
    private_key: bytes
    client_ca: bytes | None
    expires_s: float

    def grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC wants it."""
        return grpc.ssl_server_certificate_configuration([(self.private_key, self.chain)], self.client_ca)


def load_certificate(files: CertificateFiles, now_s: float) -> Certificate:
    """Reads and checks the files. Raises CertificateError: for parts that do not fit, and outside of its days."""
    chain, key = _read(files.certificate), _read(files.private_key)
    client_ca = _read(files.client_ca) if files.client_ca is not None else None
    own = _certificates(files.certificate, chain)[0]
    if _public_bytes(_public_key(files.private_key, key)) != _public_bytes(own.public_key()):
        raise CertificateError(f"{files.private_key} is not the key of {files.certificate}")
    expires_s = own.not_valid_after_utc.timestamp()
    if now_s >= expires_s:
        raise CertificateError(f"{files.certificate} expired at {own.not_valid_after_utc.isoformat()}")
    if now_s < own.not_valid_before_utc.timestamp():
        raise CertificateError(f"{files.certificate} is not valid before {own.not_valid_before_utc.isoformat()}")
    if files.client_ca is not None and client_ca is not None:
        _certificates(files.client_ca, client_ca)
    return Certificate(chain, key, client_ca, expires_s)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"{path} cannot be read: {error.strerror}") from None


def _certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        certificates: list[x509.Certificate] = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError(f"{path} is not a certificate in PEM") from None
    return certificates


def _public_key(path: Path, pem: bytes) -> PublicKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password=None).public_key()
    except TypeError:
        raise CertificateError(f"{path} is encrypted") from None
    except ValueError:
        raise CertificateError(f"{path} is not a private key in PEM") from None


def _public_bytes(key: PublicKeyTypes) -> bytes:
    der: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return der


class ServerCertificate:
    """The certificate that a running service shows."""

    def __init__(
        self, files: CertificateFiles, reloads: ReloadMetrics, wall_clock: Callable[[], float] = time.time
    ) -> None:
        """Raises CertificateError."""
        self.files = files
        self._reloads = reloads
        self._wall_clock = wall_clock
        self._stamp = stamp_of(files.paths())
        self._http_contexts: list[ssl.SSLContext] = []
        self._take(load_certificate(files, wall_clock()))

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that show the newest certificate at each handshake."""
        shown = self._configuration

        def changed() -> grpc.ServerCertificateConfiguration | None:
            """Called on gRPC's threads. None: as before, which saves building the same again for each handshake."""
            nonlocal shown
            newest = self._configuration
            if newest is shown:
                return None
            shown = newest
            return newest

        is_mutual = self.files.client_ca is not None
        # The published types leave None out.
        return grpc.dynamic_ssl_server_credentials(shown, changed, is_mutual)  # type: ignore[arg-type]

    def follow_in(self, context: ssl.SSLContext) -> None:
        """Keeps the certificate of an HTTP server's context the newest, too."""
        self._http_contexts.append(context)

    def watch(self, files: FileWatch) -> None:
        """Follows changes of the files from now on."""
        files.add(self.files.paths(), self._stamp, self.reload)

    def reload(self) -> None:
        """Reads the files again. What cannot be used, such as a pair that is half replaced, leaves the old in use."""
        try:
            self._take(load_certificate(self.files, self._wall_clock()))
            for context in self._http_contexts:
                context.load_cert_chain(self.files.certificate, self.files.private_key)
        except (CertificateError, OSError) as error:
            self._reloads.note(_FILE_LABEL, accepted=False)
            _log.error("changed certificate is not used", extra={"fields": {"error": str(error)}})
            return
        self._reloads.note(_FILE_LABEL, accepted=True)
        _log.info("certificate read again", extra={"fields": {"expires_s": self._certificate.expires_s}})

    def _take(self, certificate: Certificate) -> None:
        self._certificate = certificate
        self._configuration = certificate.grpc_configuration()
        self._reloads.certificate_expires(certificate.expires_s)
