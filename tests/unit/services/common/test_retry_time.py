import pytest

from services.common.retry_time import RetryTime


class Clock:
    """A clock that is set by hand."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def after(admitted: int, refused: int, draw: float = 0.5) -> int:
    """The time that the last refused client is told."""
    retry = RetryTime(500, 10_000, Clock(), lambda: draw)
    for _ in range(admitted):
        retry.note_admitted()
    return [retry.next_ms() for _ in range(refused)][-1]


def test_it_grows_with_the_overload() -> None:
    assert after(admitted=100, refused=1) == 500
    assert after(admitted=100, refused=100) == 1_000
    assert after(admitted=100, refused=900) == 5_000
    assert after(admitted=0, refused=1_000) == 10_000


def test_clients_do_not_come_again_all_at_once() -> None:
    assert after(100, 100, draw=0.0) == 750
    assert after(100, 100, draw=1.0) == 1_250
    assert after(0, 1_000, draw=1.0) == 10_000  # never more than the most


def test_an_overload_that_is_over_is_forgotten() -> None:
    clock = Clock()
    retry = RetryTime(500, 10_000, clock, lambda: 0.5)
    for _ in range(1_000):
        retry.next_ms()
    clock.now_s = 30.0
    retry.note_admitted()
    assert retry.next_ms() == pytest.approx(1_000, abs=10)  # one of two calls
