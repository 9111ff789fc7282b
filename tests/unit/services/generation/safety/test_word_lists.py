"""Words of a list in text that comes in pieces."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.generation.safety.normalise import normalised_text
from services.generation.safety.words import WordMatcher, WordScanner, find_words

# Letters with and without marks, a ligature, blanks, what is invisible, scripts without blanks, Hangul in both forms.
ALPHABET = "aabbcéeE\u0301ﬁfi \n\u200b.王가\u1100\u1161\u11a8ß"
TEXTS = st.text(st.sampled_from(ALPHABET), max_size=30)
WORDS = st.lists(st.text(st.sampled_from(ALPHABET), min_size=1, max_size=6).filter(str.strip), min_size=1, max_size=4)


def found(words: list[str], text: str) -> list[str]:
    scanned = find_words(WordMatcher({"rule": words}), text)
    return [text[match.start : match.end] for match in scanned.matches]


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("bad", "a bad, BAD badge", ["bad", "BAD"]),
        ("bad thing", "a bad \n  thing", ["bad \n  thing"]),
        ("straße", "STRASSE", ["STRASSE"]),
        ("café", "cafe\u0301 Café cafe", ["cafe\u0301", "Café"]),
        ("cafe", "café cafe\u0301", []),
        ("fine", "ﬁne", ["ﬁne"]),
        ("bad", "b\u200ba\u00add", ["b\u200ba\u00add"]),
        ("ＢＡＤ", "bad", ["bad"]),
        ("王", "国王说", ["王"]),
        ("나쁜", "나쁜말", ["나쁜"]),
        ("가", "각", []),
        ("가", "\u1100\u1161", ["\u1100\u1161"]),
        ("c++", "c++ is", ["c++"]),
        ("नम", "नमस्ते नम", ["नम"]),
    ],
)
def test_what_is_a_word(word: str, text: str, expected: list[str]) -> None:
    assert found([word], text) == expected


def test_a_word_of_several_rules_names_all_of_them() -> None:
    (match,) = find_words(WordMatcher({"a": ["bad"], "b": ["BAD", "good"]}), "bad").matches
    assert match.rules == ("a", "b")


@given(TEXTS)
def test_normalising_again_changes_nothing(text: str) -> None:
    once = normalised_text(text)
    assert normalised_text(once) == once


@example(["\u0301"], "\u200b\u0301", [1])
@example(["EEE\u0301"], "EEE\u0301", [3])
@given(WORDS, TEXTS, st.lists(st.integers(0, 30), max_size=6))
def test_pieces_are_scanned_as_the_whole_and_nothing_of_a_match_comes_early(
    words: list[str], text: str, cuts: list[int]
) -> None:
    matcher = WordMatcher({"rule": words})
    if not any(map(normalised_text, words)):
        return
    whole = sorted((match.start, match.end) for match in find_words(matcher, text).matches)
    scanner = WordScanner(matcher)
    borders = sorted({0, *(cut for cut in cuts if cut < len(text)), len(text)})
    shown, matches = "", []
    for start, end in pairwise(borders):
        scanned = scanner.push(text[start:end])
        matches += [(len(shown) + match.start, len(shown) + match.end) for match in scanned.matches]
        shown += scanned.text
        for match in whole:
            assert match in matches if match[0] < len(shown) else match not in matches, (shown, match)
    scanned = scanner.finish()
    matches += [(len(shown) + match.start, len(shown) + match.end) for match in scanned.matches]
    assert shown + scanned.text == text
    assert sorted(matches) == whole


def test_only_what_may_be_a_beginning_is_held_back() -> None:
    scanner = WordScanner(WordMatcher({"rule": ["forbidden"]}))
    assert scanner.push("this is fine, for").text == "this is fine, "
    assert scanner.push("ty ").text == "forty"
    assert scanner.push("forbidden").text == " "
    assert scanner.finish().text == "forbidden"
