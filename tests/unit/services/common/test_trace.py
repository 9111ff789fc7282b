"""W3C trace context."""

import pytest

from services.common.trace import begin_trace, continue_trace

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.mark.parametrize(("flags", "sampled"), [("01", True), ("00", False), ("03", True), ("02", False)])
def test_a_callers_trace_goes_on_as_it_says(flags: str, sampled: bool) -> None:
    for ratio in (0.0, 1.0):
        trace = continue_trace(f"00-{TRACE_ID}-{SPAN_ID}-{flags}", "vendor=1", ratio)
        assert (trace.trace_id, trace.parent_span_id, trace.tracestate) == (TRACE_ID, SPAN_ID, "vendor=1")
        assert trace.sampled is sampled
        assert trace.span_id != SPAN_ID
        assert trace.traceparent() == f"00-{TRACE_ID}-{trace.span_id}-0{int(sampled)}"


def test_a_later_version_may_say_more() -> None:
    assert continue_trace(f"01-{TRACE_ID}-{SPAN_ID}-01-more", "", 0).trace_id == TRACE_ID


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "00",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01\n",
    ],
)
def test_what_is_no_traceparent_begins_a_trace(traceparent: str | None) -> None:
    trace = continue_trace(traceparent, "vendor=1", 1.0)
    assert trace.trace_id != TRACE_ID
    assert (trace.parent_span_id, trace.tracestate, trace.sampled) == (None, "", True)
    assert (len(trace.trace_id), len(trace.span_id)) == (32, 16)


def test_a_tracestate_that_is_too_long_is_dropped() -> None:
    assert continue_trace(f"00-{TRACE_ID}-{SPAN_ID}-01", "x" * 513, 0).tracestate == ""


def test_the_share_of_sampled_traces_is_the_ratio() -> None:
    assert not any(begin_trace(0.0).sampled for _ in range(100))
    assert all(begin_trace(1.0).sampled for _ in range(100))
    assert 400 < sum(begin_trace(0.5).sampled for _ in range(1000)) < 600
