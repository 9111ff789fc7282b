"""What stands between callers and a service: TLS, tokens, and the check that they are not left out by mistake."""

import ipaddress
import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc

from services.common.access import Access
from services.common.access_settings import AccessSettings
from services.common.door import Door
from services.common.file_watch import FileWatch
from services.common.interceptors import CallInterceptor, CallPath
from services.common.metrics import MetricsEndpoint, ServiceMetrics
from services.common.observability import Observability
from services.common.reload_metrics import ReloadMetrics
from services.common.retry_time import RetryTime
from services.common.settings import CommonSettings
from services.common.tenant_file import TenantFileError
from services.common.tls import CertificateError, CertificateFiles, ServerCertificate

_log = logging.getLogger(__name__)


class FrontDoorError(ValueError):
    """The settings or the files that they name do not go together. The message is one line."""


@dataclass(frozen=True)
class FrontDoor:
    """`files` follows changes of certificate and tenants; start and close it with the server."""

    interceptor: CallInterceptor
    certificate: ServerCertificate | None
    files: FileWatch

    def add_port(self, server: grpc.aio.Server, address: str) -> int:
        """Lets `server` listen; the port. Raises RuntimeError when it cannot."""
        if self.certificate is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self.certificate.credentials())

    def metrics_pair(self, settings: AccessSettings) -> tuple[Path, Path] | None:
        """Certificate and key for the metrics port; None when it speaks no TLS."""
        if self.certificate is None or not settings.metrics_tls:
            return None
        return (self.certificate.files.certificate, self.certificate.files.private_key)

    def follow_in(self, metrics: MetricsEndpoint) -> None:
        """Keeps the certificate of the metrics port the newest, if it has one."""
        if self.certificate is not None and metrics.tls is not None:
            self.certificate.follow_in(metrics.tls)


def open_front_door(
    settings: CommonSettings, metrics: ServiceMetrics, door: Door | None, observability: Observability
) -> FrontDoor:
    """Reads certificate and tenants. `door` admits the calls. Raises FrontDoorError."""
    reloads = ReloadMetrics(metrics.registry)
    watch = FileWatch()
    try:
        files = CertificateFiles.of(settings)
        certificate = ServerCertificate(files, reloads) if files is not None else None
        retry = partial(RetryTime, settings.retry_after_ms, settings.retry_after_max_ms)
        access = Access(settings, metrics.registry, retry, reloads)
    except (CertificateError, TenantFileError) as error:
        raise FrontDoorError(str(error)) from error
    _check_exposure(settings, access, settings.host)
    access.watch(watch)
    if certificate is not None:
        certificate.watch(watch)
    path = CallPath(metrics, access, observability, door, open_reflection=settings.reflection == "open")
    return FrontDoor(CallInterceptor(path), certificate, watch)


def _check_exposure(settings: AccessSettings, access: Access, host: str) -> None:
    if is_loopback(host):
        return
    if access.enabled and not settings.tls_enabled and not settings.allow_plaintext_tokens:
        raise FrontDoorError(
            f"tokens would cross the network in the clear: {host} is not loopback, and NAIAD_TLS_CERTIFICATE is not set"
            " (NAIAD_ALLOW_PLAINTEXT_TOKENS=true where something in front ends TLS)"
        )
    if not access.enabled and settings.tls_client_ca == "off":
        _log.warning(
            "everyone who reaches this port may call: neither NAIAD_TENANTS_FILE nor NAIAD_TLS_CLIENT_CA is set",
            extra={"fields": {"host": host}},
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
