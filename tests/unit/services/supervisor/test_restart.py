"""Delays between restarts, and when to give up."""

from services.supervisor.restart import RestartHistory, RestartPolicy

POLICY = RestartPolicy(first_delay_s=1.0, longest_delay_s=3.0, most_deaths=5, window_s=60.0)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_delays_double_up_to_the_longest_and_then_it_gives_up() -> None:
    history = RestartHistory(POLICY, Clock())
    assert [history.record_death() for _ in range(5)] == [1.0, 2.0, 3.0, 3.0, None]


def test_deaths_outside_of_the_window_are_forgotten() -> None:
    clock = Clock()
    history = RestartHistory(POLICY, clock)
    for _ in range(20):
        assert history.record_death() == 1.0
        clock.now_s += 61.0
