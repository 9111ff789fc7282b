"""The work is the same for every system, and another in every round."""

from __future__ import annotations

import itertools
import statistics

import pytest

from benchmarks.workloads import poisson_arrivals, prompts


def test_prompts_repeat_exactly_and_differ_between_variants() -> None:
    assert prompts(3, 10, "round 1") == prompts(3, 10, "round 1")
    many = [tuple(prompt[:4]) for variant in ("round 1", "round 2") for prompt in prompts(8, 64, variant)]
    assert len(set(many)) == 16
    assert {len(prompt) for prompt in prompts(2, 512)} == {512}


def test_arrivals_are_those_of_a_poisson_process_and_do_not_depend_on_answers() -> None:
    arrivals = poisson_arrivals(50, 100, "a")
    assert arrivals == poisson_arrivals(50, 100, "a") != poisson_arrivals(50, 100, "b")
    assert arrivals == sorted(arrivals) and arrivals[0] == 0 and arrivals[-1] < 100
    gaps = [after - before for before, after in itertools.pairwise(arrivals)]
    assert statistics.mean(gaps) == pytest.approx(1 / 50, rel=0.1)
    assert statistics.stdev(gaps) == pytest.approx(1 / 50, rel=0.1)  # As its mean, in an exponential distribution.


def test_at_least_one_request_arrives_and_nonsense_is_refused() -> None:
    assert poisson_arrivals(0.001, 0.001) == [0.0]
    with pytest.raises(ValueError, match="above 0"):
        poisson_arrivals(0, 10)
