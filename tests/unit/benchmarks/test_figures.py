"""What is computed from tokens and their times."""

from __future__ import annotations

import pytest

from benchmarks.figures import decode_figures, open_loop_figures, prefill_figures, prefix_figures
from benchmarks.report import percentile
from benchmarks.systems.protocol import Answer, Request


def _answer(*times_s: float) -> Answer:
    return Answer(list(range(len(times_s))), list(times_s))


def test_decoding_is_counted_while_all_streams_decode() -> None:
    figures = decode_figures([_answer(1.0, 2.0, 3.0), _answer(1.5, 2.5, 4.0)])
    assert figures.tokens_per_second == pytest.approx(6 / 4.0)
    assert figures.decode_tokens_per_second == pytest.approx(3 / 1.5)  # At 2, 2.5 and 3, from 1.5 to 3.
    assert figures.time_to_first_token_p50_ms == pytest.approx(1250)
    assert figures.inter_token_p50_ms == pytest.approx(1000)


def test_streams_that_never_decode_together_are_counted_to_the_end() -> None:
    figures = decode_figures([_answer(1.0, 2.0), _answer(3.0, 5.0)])
    assert figures.decode_tokens_per_second == pytest.approx(1 / 2.0)


def test_tokens_that_come_together_are_no_time_apart() -> None:
    figures = decode_figures([_answer(1.0, 2.0, 2.0, 4.0)])
    assert (figures.inter_token_p50_ms, figures.inter_token_p99_ms) == (1000, 1000)


def test_a_failed_request_is_no_figure() -> None:
    with pytest.raises(ValueError, match="UNAVAILABLE"):
        decode_figures([_answer(1.0, 2.0), Answer(error="UNAVAILABLE")])
    with pytest.raises(ValueError, match="no token"):
        prefill_figures(Request((1,), 1), Answer())


def test_prefill_is_the_prompt_over_the_time_to_its_first_token() -> None:
    figures = prefill_figures(Request(tuple(range(100)), 2), _answer(0.25, 0.5))
    assert (figures.time_to_first_token_ms, figures.prefill_tokens_per_second) == (250, 400)
    assert prefix_figures(_answer(2.0), _answer(0.5)).second_to_first == 0.25


def test_open_loop_latencies_count_from_the_scheduled_arrival_however_late_a_request_was_sent() -> None:
    requests = [Request((1,), 2, arrival_s) for arrival_s in (0.0, 1.0, 8.0)]
    answers = [_answer(4.0, 5.0), _answer(6.0, 10.0), Answer(error="RESOURCE_EXHAUSTED")]
    figures = open_loop_figures(requests, answers)
    assert (figures.requests, figures.failed) == (3, 1)
    assert figures.time_to_first_token_p50_ms == pytest.approx(4500)  # 4 s and 5 s after they should have been sent.
    assert figures.tokens_per_second == pytest.approx(0.4)
    assert (figures.last_arrival_s, figures.drain_s) == (8, 2)
    with pytest.raises(ValueError, match="every request failed: full"):
        open_loop_figures(requests[:1], [Answer(error="full")])


@pytest.mark.parametrize(("part", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_values_that_came(part: float, expected: float) -> None:
    assert percentile(range(1, 101), part) == expected
