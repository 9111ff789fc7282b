from hypothesis import given
from hypothesis import strategies as st

from services.generation.stop_text import StopTextMatcher

TEXT = st.text(alphabet="abé👍", max_size=30)
STOPS = st.lists(st.text(alphabet="abé👍", min_size=1, max_size=4), max_size=4)


def shown(stops: list[str], pieces: list[str]) -> tuple[str, str | None]:
    """Text that gets through, and the stop text."""
    matcher = StopTextMatcher(stops)
    text = ""
    for piece in pieces:
        matched = matcher.push(piece)
        text += matched.text
        if matched.stop is not None:
            return text, matched.stop
    return text + matcher.finish(), None


def cut(text: str, sizes: list[int]) -> list[str]:
    pieces, start = [], 0
    while start < len(text):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(text[start : start + size])
        start += size
    return pieces


def expected(stops: list[str], text: str) -> tuple[str, str | None]:
    """Reads the text character by character: the stop that is complete first wins, then the longest."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(text=TEXT, stops=STOPS, sizes=st.lists(st.integers(1, 7), min_size=1, max_size=4))
def test_the_result_does_not_depend_on_the_pieces(text: str, stops: list[str], sizes: list[int]) -> None:
    assert shown(stops, cut(text, sizes)) == expected(stops, text)


@given(text=TEXT, stops=STOPS)
def test_nothing_is_shown_that_a_stop_would_take_back(text: str, stops: list[str]) -> None:
    matcher = StopTextMatcher(stops)
    text_so_far = ""
    for character in text:
        matched = matcher.push(character)
        text_so_far += matched.text
        assert expected(stops, text)[0].startswith(text_so_far)
        if matched.stop is not None:
            break


def test_only_a_possible_beginning_is_held_back() -> None:
    matcher = StopTextMatcher(["END"])
    assert matcher.push("the E").text == "the "
    assert matcher.push("x").text == "Ex"
    assert matcher.push("EN").text == ""
    assert matcher.push("D and more").stop == "END"


def test_without_stop_texts_all_passes() -> None:
    assert StopTextMatcher([]).push("END").text == "END"
