"""What is kept of a call beside metrics: its place in a trace, its log line, its spans, and on request its texts."""

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf import text_format

from services.common.call import Call
from services.common.observability_settings import OFF, ObservabilitySettings
from services.common.setting import SettingsError

if TYPE_CHECKING:
    from services.common.otel import SpanRecorder

MAX_LOGGED_REQUEST_CHARS = 8192
_log = logging.getLogger("naiad.rpc")


@dataclass(frozen=True)
class Observability:
    """Which calls are sampled, where spans go (None: nowhere), and whether requests are logged with their texts."""

    sample_ratio: float = 0.0
    spans: "SpanRecorder | None" = None
    log_requests: bool = False

    def note_request(self, call: Call, request: Any) -> None:
        """Puts the request into the log line, if that is wanted."""
        if self.log_requests:
            text = text_format.MessageToString(request, as_one_line=True, as_utf8=True)
            call.log_fields["request"] = text[:MAX_LOGGED_REQUEST_CHARS]

    def finish(self, call: Call, code: str, reason: str | None) -> None:
        """Records the spans of a call that has ended."""
        if self.spans is not None and call.trace.sampled:
            self.spans.record(call, code, reason)

    def close(self) -> None:
        """Sends what waits. Blocks."""
        if self.spans is not None:
            self.spans.close()


def make_observability(service_name: str, settings: ObservabilitySettings) -> Observability:
    """Of the settings. Raises SettingsError for an endpoint that is none, or without the packages that it needs."""
    if settings.log_prompts:
        _log.warning("NAIAD_LOG_PROMPTS is on: the log holds the texts of requests")
    if settings.otlp_endpoint == OFF:
        return Observability(log_requests=settings.log_prompts)
    if not settings.otlp_endpoint.startswith(("http://", "https://")):
        raise SettingsError(f"NAIAD_OTLP_ENDPOINT={settings.otlp_endpoint!r} is neither http:// nor https://")
    from services.common.otel import MissingPackageError, SpanRecorder

    try:
        spans = SpanRecorder(service_name, settings.otlp_endpoint)
    except MissingPackageError as error:
        raise SettingsError(f"NAIAD_OTLP_ENDPOINT needs `pip install 'naiad[otel]'`: {error}") from error
    return Observability(settings.trace_sample_ratio, spans, settings.log_prompts)
