"""Spans of finished calls, to a collector. OpenTelemetry is imported only when an endpoint is set.

A call's spans are made when it has ended, of what it noted meanwhile: nothing is done for them while tokens flow.
"""

import time
from typing import TYPE_CHECKING, Any

from services.common.call import Call
from services.common.engine_run import EngineRun
from services.common.trace import TraceContext

if TYPE_CHECKING:
    from opentelemetry.context import Context

_NS = 1_000_000_000
_FLUSH_TIMEOUT_MS = 5_000
_EXPORT_TIMEOUT_S = 3  # of one batch, retries included; the end of the process may wait for one


class MissingPackageError(Exception):
    """OpenTelemetry is not installed."""


class SpanRecorder:
    """Makes a server span of each sampled call, and below it a span of each of its requests to the engine."""

    def __init__(self, service_name: str, endpoint: str) -> None:
        """Raises MissingPackageError."""
        try:
            from opentelemetry import trace
            from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ALWAYS_ON
        except ImportError as error:
            raise MissingPackageError(str(error)) from error
        self._trace = trace
        self._ids = _GivenIds()
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": service_name}),
            id_generator=self._ids,
            sampler=ALWAYS_ON,  # a call that is not sampled does not come here
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_EXPORT_TIMEOUT_S))
        )
        self._tracer = self._provider.get_tracer("naiad")

    def record(self, call: Call, code: str, reason: str | None) -> None:
        """Makes the spans of a call that has just ended. `reason` is that of its error."""
        # Wall clock of the monotonic clock's zero.
        zero_ns = time.time_ns() - round(time.monotonic() * _NS)
        self._ids.next_trace_id, self._ids.next_span_id = int(call.trace.trace_id, 16), int(call.trace.span_id, 16)
        span = self._tracer.start_span(
            call.method.lstrip("/"),
            self._parent(call.trace),
            self._trace.SpanKind.SERVER,
            {
                "rpc.system.name": "grpc",
                "rpc.method": call.method.lstrip("/"),
                "rpc.response.status_code": code,
                "naiad.request_id": call.request_id,
                **({"error.type": reason} if reason else {}),
            },
            start_time=zero_ns + round(call.arrived_s * _NS),
        )
        if reason is not None:
            span.set_status(self._trace.StatusCode.ERROR, reason)
        context = self._trace.set_span_in_context(span)
        for run in call.engine_runs.kept:
            self._record_run(run, context, zero_ns)
        if call.engine_runs.count > len(call.engine_runs.kept):
            span.set_attribute("naiad.engine_runs", call.engine_runs.count)
        span.end()

    def close(self) -> None:
        """Sends what waits, for at most some seconds."""
        self._provider.force_flush(_FLUSH_TIMEOUT_MS)
        self._provider.shutdown()

    def _parent(self, trace: TraceContext) -> "Context | None":
        if trace.parent_span_id is None:
            return None
        parent = self._trace.SpanContext(
            int(trace.trace_id, 16),
            int(trace.parent_span_id, 16),
            is_remote=True,
            trace_flags=self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED),
            trace_state=self._trace.TraceState.from_header([trace.tracestate]),
        )
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(parent))

    def _record_run(self, run: EngineRun, context: "Context", zero_ns: int) -> None:
        begun_ns = zero_ns + round(run.begun_s * _NS)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": run.operation,
            "gen_ai.provider.name": "naiad",
            "gen_ai.request.model": run.model,
            **run.attributes,
            **{f"naiad.{phase}_us": duration_us for phase, duration_us in run.phases_us.items()},
        }
        span = self._tracer.start_span(
            f"{run.operation} {run.model}", context, self._trace.SpanKind.CLIENT, attributes, start_time=begun_ns
        )
        phase_begun_ns = begun_ns
        for phase, duration_us in run.phases_us.items():
            span.add_event(phase, timestamp=phase_begun_ns)
            phase_begun_ns += duration_us * 1000
        span.end(zero_ns + round(run.ended_s * _NS))


class _GivenIds:
    """The ids that logs and answers already have for a call's span; fresh ones for the others."""

    def __init__(self) -> None:
        from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

        self._random = RandomIdGenerator()
        self.next_trace_id: int | None = None
        self.next_span_id: int | None = None

    def is_trace_id_random(self) -> bool:
        """Whether trace ids are random enough to be sampled by."""
        return True

    def generate_span_id(self) -> int:
        """Id of the span that is being made."""
        given, self.next_span_id = self.next_span_id, None
        return self._random.generate_span_id() if given is None else given

    def generate_trace_id(self) -> int:
        """Id of the trace of a span that has no parent."""
        given, self.next_trace_id = self.next_trace_id, None
        return self._random.generate_trace_id() if given is None else given
