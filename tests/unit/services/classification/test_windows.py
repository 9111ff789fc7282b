"""Windows over long texts."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.classification.windows import Window, plan_windows


def test_a_text_that_fits_is_one_window() -> None:
    assert plan_windows(5, 5, 2) == [Window(range(5), range(5), range(5))]
    assert plan_windows(0, 5, 2) == [Window(range(0), range(0), range(0))]


def test_windows_share_the_overlap_and_split_it_in_the_middle() -> None:
    assert plan_windows(12, 6, 2) == [
        Window(range(0, 6), range(0, 5), range(0, 6)),
        Window(range(4, 10), range(5, 9), range(6, 10)),
        Window(range(8, 12), range(9, 12), range(10, 12)),
    ]


def test_without_overlap_windows_follow_each_other() -> None:
    windows = plan_windows(7, 3, 0)
    assert [window.tokens for window in windows] == [range(0, 3), range(3, 6), range(6, 7)]
    assert [window.owned for window in windows] == [window.tokens for window in windows]


@pytest.mark.parametrize(("count", "max_tokens", "overlap"), [(-1, 5, 0), (9, 5, 5), (9, 5, -1), (9, 0, 0)])
def test_windows_that_cannot_be_are_refused(count: int, max_tokens: int, overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot be cut"):
        plan_windows(count, max_tokens, overlap)


@given(st.integers(0, 120), st.integers(1, 30), st.data())
def test_every_token_is_owned_by_the_window_in_which_it_is_farthest_from_an_edge(
    count: int, max_tokens: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, max_tokens - 1))
    windows = plan_windows(count, max_tokens, overlap)
    for ranges in ([window.owned for window in windows], [window.new for window in windows]):
        assert list(itertools.chain(*ranges)) == list(range(count))
    for window, following in itertools.pairwise(windows):
        assert len(window.tokens) == max_tokens
        assert len(range(following.tokens.start, window.tokens.stop)) == overlap

    def distance(window: Window, token: int) -> float:
        to_start = token - window.tokens.start if window.tokens.start else float("inf")
        to_end = window.tokens.stop - 1 - token if window.tokens.stop < count else float("inf")
        return min(to_start, to_end)

    for window in windows:
        assert window.tokens.start <= window.owned.start and window.owned.stop <= window.tokens.stop
        for token in window.owned:
            others = [distance(other, token) for other in windows if token in other.tokens]
            assert distance(window, token) == max(others)
