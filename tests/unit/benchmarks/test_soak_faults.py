"""Which faults a soak injects, and when."""

import random
from collections import Counter

from benchmarks.soak_faults import PARTS, PERIOD_S, SEASON_S, FaultSchedule


def faults_by_season(seasons: int) -> list[Counter[tuple[str, str]]]:
    schedule = FaultSchedule(random.Random(1))
    counted: list[Counter[tuple[str, str]]] = [Counter() for _ in range(seasons)]
    for number in range(int(seasons * SEASON_S / PERIOD_S)):
        at_s = (number + 0.5) * PERIOD_S
        counted[int(at_s / SEASON_S)][schedule.next(at_s)] += 1
    return counted


def killed(counts: Counter[tuple[str, str]]) -> set[str]:
    return {part for action, part in counts if action == "kill"}


def test_services_and_triton_are_killed_in_turns() -> None:
    assert [killed(counts) for counts in faults_by_season(4)] == [set(PARTS), {"triton"}] * 2


def test_every_kind_comes_about_equally_often() -> None:
    for counts in faults_by_season(2):
        assert {action for action, _ in counts} == {"kill", "freeze", "reset"}
        assert max(counts.values()) - min(counts.values()) <= 1
