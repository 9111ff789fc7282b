"""Metrics of files that are read again when they change."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class ReloadMetrics:
    """Counts changes by file (`tenants`, `certificate`), and says what is in use: the newest or not, and until when."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._reloads = Counter(
            "naiad_file_reloads_total",
            "Changed files that were taken over (accepted) or not (rejected).",
            ["file", "outcome"],
            registry=registry,
        )
        self._current = Gauge(
            "naiad_file_is_current",
            "0 while an older content is in use because the changed file cannot be used.",
            ["file"],
            registry=registry,
        )
        self._registry = registry
        self._expiry: Gauge | None = None

    def note(self, file: str, *, accepted: bool) -> None:
        """One change of `file`."""
        self._reloads.labels(file, "accepted" if accepted else "rejected").inc()
        self._current.labels(file).set(accepted)

    def certificate_expires(self, expires_s: float) -> None:
        """When the certificate in use ends, in seconds since 1970. Without TLS there is no such metric."""
        if self._expiry is None:
            self._expiry = Gauge(
                "naiad_tls_certificate_expiry_seconds",
                "When the certificate in use ends, in seconds since 1970.",
                registry=self._registry,
            )
        self._expiry.set(expires_s)
