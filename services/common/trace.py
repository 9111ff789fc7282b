"""W3C trace context: the trace of a caller (`traceparent`, `tracestate`) continued, or one begun. Free of gRPC."""

import os
import re
from dataclasses import dataclass

TRACEPARENT_KEY = "traceparent"
TRACESTATE_KEY = "tracestate"
# Later versions may add fields; their first four are those of version 00.
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_MAX_TRACESTATE_CHARS = 512
_RATIO_BITS = 56  # the random part of a trace id that everybody may sample by


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where a call stands in a trace. `span_id` is the call's own span, `parent_span_id` the caller's, None for a root.

    Ids are lowercase hexadecimal: 32 digits of the trace, 16 of a span. `sampled` says whether spans are recorded.
    """

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    sampled: bool = False
    tracestate: str = ""

    def traceparent(self) -> str:
        """The header that makes what follows a child of this call."""
        return f"00-{self.trace_id}-{self.span_id}-{'01' if self.sampled else '00'}"


def begin_trace(sample_ratio: float = 0.0) -> TraceContext:
    """A new trace, sampled with that probability."""
    digits = os.urandom(24).hex()
    return TraceContext(digits[:32], digits[32:], sampled=_is_sampled(digits[:32], sample_ratio))


def continue_trace(traceparent: str | None, tracestate: str, sample_ratio: float) -> TraceContext:
    """The caller's trace, sampled if the caller samples it; a new one when `traceparent` is absent or none."""
    found = _TRACEPARENT.fullmatch(traceparent) if traceparent is not None else None
    if found is None or (found[1] == "00" and found[5]):
        return begin_trace(sample_ratio)
    kept = tracestate if len(tracestate) <= _MAX_TRACESTATE_CHARS else ""
    return TraceContext(found[2], os.urandom(8).hex(), found[3], bool(int(found[4], 16) & _SAMPLED), kept)


def _is_sampled(trace_id: str, ratio: float) -> bool:
    return ratio > 0 and int(trace_id[-_RATIO_BITS // 4 :], 16) < ratio * (1 << _RATIO_BITS)
