"""Who may call: bearer tokens and names in clients' certificates, checked before a request's body is read."""

import hmac
import logging
import re
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.access_settings import OFF, AccessSettings
from services.common.errors import NaiadError, Reason
from services.common.file_watch import FileWatch, stamp_of
from services.common.reload_metrics import ReloadMetrics
from services.common.retry_time import RetryTime
from services.common.tenant_file import (
    SERVICES,
    Tenant,
    TenantFileError,
    TenantTable,
    digest_of,
    load_tenants,
    lookup_key,
)
from services.common.tenants import TenantMetrics, TenantShares, TenantUse

AUTHORIZATION_KEY = "authorization"
MAX_TOKEN_CHARS = 512
_BEARER = re.compile(r"bearer +(\S+)", re.IGNORECASE)
_SERVICE = re.compile(r"/naiad\.v\d+\.(\w+)Service/\w+")
_FILE_LABEL = "tenants"
_log = logging.getLogger(__name__)

Metadata = Iterable[tuple[str, str | bytes]]


class Access:
    """The tenants of one process. Without a tenants file everyone may call, and nobody is a tenant."""

    def __init__(
        self,
        settings: AccessSettings,
        registry: CollectorRegistry,
        new_retry_time: Callable[[], RetryTime],
        reloads: ReloadMetrics,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """Raises TenantFileError."""
        self._wall_clock = wall_clock
        self._reloads = reloads
        self._path = None if settings.tenants_file == OFF else Path(settings.tenants_file)
        self._stamp = stamp_of([self._path]) if self._path is not None else ()
        self._table = TenantTable({}, {}, {})
        self.metrics: TenantMetrics | None = None
        if self._path is not None:
            self.metrics = TenantMetrics(registry)
            self._shares = TenantShares(self.metrics, new_retry_time)
            self._take(load_tenants(self._path))

    @property
    def enabled(self) -> bool:
        """Whether callers must say who they are."""
        return self._path is not None

    def watch(self, files: FileWatch) -> None:
        """Follows changes of the tenants file from now on."""
        if self._path is not None:
            files.add([self._path], self._stamp, self.reload)

    def reload(self) -> None:
        """Reads the file again. One that cannot be used leaves everything as it was."""
        if self._path is None:
            return
        try:
            self._take(load_tenants(self._path))
        except TenantFileError as error:
            self._reloads.note(_FILE_LABEL, accepted=False)
            _log.error("changed tenants file is not used", extra={"fields": {"error": str(error)}})
            return
        self._reloads.note(_FILE_LABEL, accepted=True)
        fields = {"tenants": len(self._table.tenants), "tokens": len(self._table.tokens)}
        _log.info("tenants file read again", extra={"fields": fields})

    def _take(self, table: TenantTable) -> None:
        self._table = table
        self._shares.configure(table.tenants)

    def identify(self, method: str, metadata: Metadata) -> TenantUse | None:
        """The tenant whose token `metadata` carries, if it may call `method`.

        None when everyone may call, or when the certificate decides (`identify_peer`). Raises UNAUTHENTICATED,
        PERMISSION_DENIED.
        """
        if not self.enabled:
            return None
        values = [value for key, value in metadata if key == AUTHORIZATION_KEY]
        if not values and self._table.by_certificate_name:
            return None
        return self._permitted(method, self._tenant_of_token(values))

    def identify_peer(self, method: str, auth_context: Mapping[str, Iterable[bytes]]) -> TenantUse | None:
        """The tenant whose client certificate a connection has; None when everyone may call.

        To be asked when `identify` gave None. Raises UNAUTHENTICATED, PERMISSION_DENIED.
        """
        if not self.enabled:
            return None
        # Names of the alternative kind first: where there are any, a common name no longer counts (RFC 6125).
        names = list(auth_context.get("x509_subject_alternative_name", ())) or list(
            auth_context.get("x509_common_name", ())
        )
        tenants = {
            tenant.name: tenant
            for name in names
            if (tenant := self._table.by_certificate_name.get(name.decode("utf-8", "replace"))) is not None
        }
        if len(tenants) != 1:
            raise NaiadError(Reason.UNAUTHENTICATED, "neither a bearer token nor a certificate of a tenant")
        return self._permitted(method, next(iter(tenants.values())))

    def _tenant_of_token(self, values: list[str | bytes]) -> Tenant:
        if not values:
            raise NaiadError(Reason.UNAUTHENTICATED, "authorization: a bearer token is missing")
        value = values[0]
        match = _BEARER.fullmatch(value) if isinstance(value, str) and len(value) <= MAX_TOKEN_CHARS else None
        if match is None or len(values) > 1:
            raise NaiadError(Reason.UNAUTHENTICATED, "authorization: not one bearer token")
        digest = digest_of(match.group(1))
        # The time of the lookup can tell at most about the beginning of a digest, from which nobody gets to a token;
        # the comparison that decides takes the same time wherever two digests differ.
        token = self._table.tokens.get(lookup_key(digest))
        if token is None or not hmac.compare_digest(token.digest, digest):
            raise NaiadError(Reason.UNAUTHENTICATED, "authorization: the token is not known")
        if token.expires_s is not None and self._wall_clock() >= token.expires_s:
            raise NaiadError(Reason.UNAUTHENTICATED, "authorization: the token has expired")
        return token.tenant

    def _permitted(self, method: str, tenant: Tenant) -> TenantUse:
        match = _SERVICE.fullmatch(method)
        service = match.group(1).lower() if match else ""
        if service in SERVICES and not tenant.may_use_service(service):
            raise NaiadError(Reason.PERMISSION_DENIED, "this tenant may not use this service")
        return self._shares.use_of(tenant)
