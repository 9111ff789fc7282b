"""Words of texts in any script, and the tokens that they are read as."""

import pytest

from services.classification.words import Word, split_words, words_of_tokens


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t\n\u3000\u200b", []),
        ("one", ["one"]),
        ("Don't stop, it's 3.14 or 1,000!!!", ["Don't", "stop", ",", "it's", "3.14", "or", "1,000", "!!!"]),
        ("end.'quoted'", ["end", ".'", "quoted", "'"]),
        ("snake_case well-known", ["snake_case", "well", "-", "known"]),
        ("你好 world", ["你", "好", "world"]),
        ("日本語です", ["日", "本", "語", "で", "す"]),
        ("สวัสดี", ["ส", "วั", "ส", "ดี"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("مرحبا بالعالم", ["مرحبا", "بالعالم"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("zero\u200bwidth \u200djoiner", ["zero", "width", "joiner"]),
        ("👩‍👩‍👧‍👦 fun ❤️!", ["👩‍👩‍👧‍👦", "fun", "❤️", "!"]),
        ("a\x00b", ["a", "b"]),
    ],
)
def test_texts_are_split_into_words(text: str, words: list[str]) -> None:
    spans = split_words(text, 1_000)
    assert [text[start:end] for start, end in spans] == words


def test_reading_stops_when_there_are_too_many_words() -> None:
    assert len(split_words("word " * 100_000, 10)) == 11


def test_tokens_belong_to_the_words_that_they_are_in() -> None:
    # [CLS] don ' t stop [SEP]
    offsets = [(0, 0), (0, 3), (3, 4), (4, 5), (6, 10), (0, 0)]
    assert words_of_tokens([(0, 5), (6, 10)], offsets) == [Word(0, 5, (1, 2, 3)), Word(6, 10, (4,))]


def test_words_that_share_a_token_become_one() -> None:
    assert words_of_tokens([(0, 1), (1, 2), (2, 3)], [(0, 2), (2, 3)]) == [Word(0, 2, (0,)), Word(2, 3, (1,))]
    assert words_of_tokens([(0, 2), (2, 4), (5, 6)], [(0, 1), (1, 4), (4, 6)]) == [
        Word(0, 4, (0, 1)),
        Word(5, 6, (2,)),
    ]


def test_words_without_tokens_and_tokens_without_words_are_left_out() -> None:
    assert words_of_tokens([(0, 1), (2, 3), (4, 5)], [(2, 3), (3, 4)]) == [Word(2, 3, (0,))]
    assert words_of_tokens([], [(0, 1)]) == []
