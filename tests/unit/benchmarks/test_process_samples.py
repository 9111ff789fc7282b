"""Trends of what processes hold: growth is seen, noise and restarts are not."""

import random

import pytest

from benchmarks.process_samples import QUANTITIES, Quantity, Sample, slope_of, trend_of

MEMORY = next(quantity for quantity in QUANTITIES if quantity.name == "memory")
DESCRIPTORS = next(quantity for quantity in QUANTITIES if quantity.name == "descriptors")


def samples(quantity: Quantity, values: list[float], pid: int = 1, begin_s: float = 0.0) -> list[Sample]:
    return [Sample(begin_s + 5 * index, pid, {quantity.name: value}) for index, value in enumerate(values)]


def test_a_leak_is_found_under_noise_and_outliers() -> None:
    chance = random.Random(1)
    values = [100e6 + 0.1e6 * index + chance.uniform(-5e5, 5e5) for index in range(200)]
    values[50] = 500e6
    trend = trend_of("triton", samples(MEMORY, values), MEMORY)
    assert trend is not None
    assert trend.growth_per_minute == pytest.approx(1.2e6, rel=0.05)
    assert not trend.is_level


def test_noise_and_one_step_are_level() -> None:
    chance = random.Random(1)
    values = [100e6 + chance.uniform(-5e6, 5e6) for _ in range(200)]
    trend = trend_of("triton", samples(MEMORY, values), MEMORY)
    assert trend is not None and trend.is_level
    steps = trend_of("triton", samples(DESCRIPTORS, [40.0] * 20 + [41.0] * 180), DESCRIPTORS)
    assert steps is not None and (steps.growth, steps.is_level) == (0, True)


def test_a_restart_is_no_growth() -> None:
    before = samples(MEMORY, [200e6] * 40, pid=1)
    after = samples(MEMORY, [300e6] * 40, pid=2, begin_s=400)
    trend = trend_of("triton", before + after, MEMORY)
    assert trend is not None
    assert (trend.growth, trend.processes, trend.is_level) == (0, 2, True)


def test_growth_counts_for_the_life_of_one_process() -> None:
    lives = [samples(MEMORY, [100e6 + 1e5 * n for n in range(40)], pid, begin_s=300 * pid) for pid in range(10)]
    trend = trend_of("triton", [sample for life in lives for sample in life], MEMORY)
    assert trend is not None
    assert (trend.processes, trend.judged_s) == (10, 195)
    assert trend.growth == pytest.approx(39e5)
    assert trend.is_level


def test_too_few_samples_say_nothing() -> None:
    assert slope_of(samples(MEMORY, [1.0, 2.0, 3.0]), "memory") is None
    assert trend_of("triton", samples(DESCRIPTORS, [1.0] * 100), MEMORY) is None
