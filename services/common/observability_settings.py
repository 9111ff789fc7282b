"""Settings of traces and logs."""

from dataclasses import dataclass

from services.common.setting import setting

OFF = "off"


@dataclass(frozen=True)
class ObservabilitySettings:
    """What is recorded of calls, and where it goes."""

    otlp_endpoint: str = setting(
        OFF,
        "OTLP_ENDPOINT",
        doc="Collector that gets spans as OTLP over gRPC, as http://HOST:PORT or https://HOST:PORT; needs the extra"
        " `otel`. off records none.",
    )
    trace_sample_ratio: float = setting(
        1.0,
        "TRACE_SAMPLE_RATIO",
        doc="Share of the traces begun here that are recorded; a caller's own trace is recorded if the caller says so.",
        minimum=0,
        maximum=1,
    )
    log_prompts: bool = setting(
        False,
        "LOG_PROMPTS",
        doc="Whether requests go into the log with their texts. Who reads the log then reads what users wrote.",
    )
