import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import NaiadError
from services.common.tokenizer import (
    FEW_CHARACTERS,
    MAX_HELD_TOKENS,
    REPLACEMENT,
    IncrementalDetokenizer,
    TextTokenizer,
)
from tests.support.small_models import bert_tokenizer, byte_fallback_tokenizer, byte_level_tokenizer

BYTE_LEVEL = TextTokenizer(byte_level_tokenizer())
BYTE_FALLBACK = TextTokenizer(byte_fallback_tokenizer())
BERT = TextTokenizer(bert_tokenizer())

HARD_TEXTS = [
    "hello world",
    "  two spaces,\n\na line ",
    "你好、世界。中文字符",
    "family 👨‍👩‍👧‍👦 flag 🏳️‍🌈 thumb 👍🏽",
    "e\u0301a\u0308o\u0302\u0323 Z̷̢̛a̸l̴g̵o̷",
    "हिन्दी में क्षत्रिय ज्ञान",
    "العربية עברית ไทย 한국어 日本語",
    "\u200bzero\u200dwidth\ufeff",
    "\U0001d518\U0001d52b\U0001d526 𐍈 \U0010ffff",
]


def pieces_of(tokenizer: TextTokenizer, ids: list[int], sizes: list[int]) -> list[str]:
    detokenizer = IncrementalDetokenizer(tokenizer)
    pieces, start = [], 0
    while start < len(ids):
        size = sizes[len(pieces) % len(sizes)]
        pieces.append(detokenizer.push(ids[start : start + size]))
        start += size
    return [*pieces, detokenizer.finish()]


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK])
@pytest.mark.parametrize("text", HARD_TEXTS)
def test_hard_scripts_come_in_whole_characters_and_complete(tokenizer: TextTokenizer, text: str) -> None:
    ids = tokenizer.encode_ids(text)
    pieces = pieces_of(tokenizer, ids, [1])
    assert "".join(pieces) == text
    assert not any(REPLACEMENT in piece for piece in pieces)


@settings(deadline=None)
@given(text=st.text(max_size=60), sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5))
def test_pieces_of_any_text_are_its_decoding(text: str, sizes: list[int]) -> None:
    for tokenizer in (BYTE_LEVEL, BYTE_FALLBACK):
        ids = tokenizer.encode_ids(text)
        assert "".join(pieces_of(tokenizer, ids, sizes)) == tokenizer.decode(ids)


@settings(deadline=None)
@given(ids=st.lists(st.integers(0, BYTE_LEVEL.vocabulary_size - 1), max_size=MAX_HELD_TOKENS - 1))
def test_pieces_of_any_byte_level_tokens_are_their_decoding(ids: list[int]) -> None:
    assert "".join(pieces_of(BYTE_LEVEL, ids, [1])) == BYTE_LEVEL.decode(ids)


@settings(deadline=None)
@given(context=st.text(max_size=20), text=st.text(max_size=20))
def test_text_after_a_context_is_what_the_whole_adds(context: str, text: str) -> None:
    for tokenizer in (BYTE_LEVEL, BYTE_FALLBACK):
        before, after = tokenizer.encode_ids(context), tokenizer.encode_ids(text)
        detokenizer = IncrementalDetokenizer(tokenizer, before)
        assert tokenizer.decode(before) + detokenizer.push(after) + detokenizer.finish() == tokenizer.decode(
            before + after
        )


def test_a_space_between_words_survives_a_special_token_and_a_context() -> None:
    hello, world = (BYTE_FALLBACK.encode_ids(word) for word in ("hello", "world"))
    assert BYTE_FALLBACK.decode(world) == "world"
    assert IncrementalDetokenizer(BYTE_FALLBACK, hello).push(world) == " world"
    detokenizer = IncrementalDetokenizer(BYTE_FALLBACK)
    assert detokenizer.push(hello) + detokenizer.push([0]) + detokenizer.push(world) == "hello world"


def test_an_unfinished_character_at_the_end_becomes_a_replacement() -> None:
    ids = BYTE_LEVEL.encode_ids("中")
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL)
    assert detokenizer.push(ids[:-1]) == ""
    assert detokenizer.finish() == REPLACEMENT


def test_a_complete_character_stays_when_a_byte_fallback_run_turns_out_malformed() -> None:
    ids = BYTE_FALLBACK.encode_ids("é")[1:]
    detokenizer = IncrementalDetokenizer(BYTE_FALLBACK)
    text = detokenizer.push([*ids, ids[0], *BYTE_FALLBACK.encode_ids("hello")])
    assert text == "é" + REPLACEMENT + " hello"


def test_endless_malformed_bytes_are_not_held_for_ever() -> None:
    (lead,) = BYTE_LEVEL.encode_ids("中")[:1]
    detokenizer = IncrementalDetokenizer(BYTE_LEVEL)
    assert detokenizer.push([lead] * MAX_HELD_TOKENS) == REPLACEMENT * MAX_HELD_TOKENS


def test_special_tokens_are_hidden_unless_asked_for() -> None:
    assert IncrementalDetokenizer(BYTE_LEVEL).push([0, 1]) == ""
    assert IncrementalDetokenizer(BYTE_LEVEL, skip_special_tokens=False).push([0, 1]) == "<s></s>"
    assert BYTE_LEVEL.decode([0], skip_special_tokens=False) == "<s>"


def test_offsets_count_characters_not_bytes() -> None:
    (encoded,) = BERT.encode(["好 hello world"])
    assert encoded.tokens == ["[CLS]", "[UNK]", "hello", "world", "[SEP]"]
    assert encoded.offsets == [(0, 0), (0, 1), (2, 7), (8, 13), (0, 0)]


def test_a_cut_keeps_the_special_tokens() -> None:
    (cut,) = BERT.encode(["a b c d"], max_length=4)
    assert (cut.tokens, cut.truncated) == (["[CLS]", "a", "b", "[SEP]"], True)
    (whole,) = BERT.encode(["a b"], max_length=4)
    assert (len(whole.ids), whole.truncated) == (4, False)
    (tiny,) = BERT.encode(["a b"], max_length=1)
    assert tiny.tokens == ["[CLS]"]


@settings(deadline=None)
@given(first=st.integers(0, 12), second=st.integers(0, 12), max_length=st.integers(3, 30))
def test_pairs_are_cut_like_the_library_cuts_them(first: int, second: int, max_length: int) -> None:
    pair = (" ".join(["a"] * first), " ".join(["b"] * second))
    library = bert_tokenizer()
    library.enable_truncation(max_length)
    expected = library.encode(*pair)
    (cut,) = BERT.encode_pairs([pair], max_length)
    assert (cut.ids, cut.type_ids) == (expected.ids, expected.type_ids)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, BYTE_FALLBACK, BERT])
@pytest.mark.parametrize("add_special_tokens", [True, False])
def test_few_texts_are_read_like_many(tokenizer: TextTokenizer, add_special_tokens: bool) -> None:
    texts = [*HARD_TEXTS, "", "hello films"]
    filler = "a " * FEW_CHARACTERS
    for few, many in zip(
        (tokenizer.encode([text], add_special_tokens, max_length=6)[0] for text in texts),
        tokenizer.encode([*texts, filler], add_special_tokens, max_length=6),
        strict=False,
    ):
        for name in ("ids", "tokens", "offsets", "type_ids", "word_ids", "sequence_ids", "truncated"):
            assert getattr(few, name) == getattr(many, name)
    for text in (*texts, filler):
        assert tokenizer.encode_ids(text, add_special_tokens) == tokenizer.encode([text], add_special_tokens)[0].ids


def test_settings_of_the_training_are_dropped() -> None:
    tokenizer = bert_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    (encoded,) = TextTokenizer(tokenizer).encode(["a b c"])
    assert encoded.tokens == ["[CLS]", "a", "b", "c", "[SEP]"]


def test_ids_out_of_range_are_named() -> None:
    BERT.check_ids([0, 13], "ids", 14)
    for wrong in (14, -1):
        with pytest.raises(NaiadError) as caught:
            BERT.check_ids([0, wrong], "ids", 14)
        assert caught.value.field_violations[0].field == "ids[1]"


def test_a_broken_file_is_refused() -> None:
    with pytest.raises(ValueError, match=r"tokenizer\.json cannot be loaded"):
        TextTokenizer.from_bytes(b"{}", "tokenizer.json")
