import asyncio

import pytest

from services.common.errors import NaiadError
from services.generation.pace import Pace


async def test_a_part_of_an_answer_needs_less_time_than_all_of_it() -> None:
    pace, soon_s = Pace(), asyncio.get_running_loop().time() + 100
    for _ in range(10):
        pace.note_first_token(50, 1.0)
        pace.note_whole(200, 1_000.0)
    pace.check(50, None, soon_s)
    with pytest.raises(NaiadError, match="it takes now"):
        pace.check(50, 200, soon_s)


def test_what_a_prompt_takes_by_itself_is_no_wait() -> None:
    pace = Pace()
    assert pace.note_first_token(1_000, 5.0) is None  # not known yet
    assert pace.note_first_token(10, 0.5) == 0.5  # a short one takes a step
    pace.note_prefill(1_000, 1.0)
    assert pace.note_first_token(1_000, 1.0) == 0.0
    assert pace.note_first_token(1_000, 5.0) == pytest.approx(3.0)  # it may share steps with others
    assert pace.note_first_token(100, 5.0) == pytest.approx(4.8)


def test_a_prompt_from_the_cache_does_not_count_as_fast() -> None:
    pace = Pace()
    pace.note_prefill(1_000, 1.0)
    pace.note_prefill(3, 0.0)
    assert pace.note_first_token(1_000, 5.0) == pytest.approx(3.0)


def test_a_best_time_that_is_not_reached_any_more_is_forgotten() -> None:
    pace = Pace()
    pace.note_prefill(1_000, 0.5)
    for _ in range(1_000):
        pace.note_prefill(1_000, 2.0)
    assert pace.note_first_token(1_000, 5.0) == pytest.approx(1.0)
