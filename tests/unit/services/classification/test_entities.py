"""Labels of tokens become entities, whatever the scheme, the script and the tokenizer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from services.classification.entities import Merge, TokenLabel, byte_spans, find_entities, parse_labels
from services.common.tokenizer import TextTokenizer
from tests.support.small_models import bert_tokenizer, byte_fallback_tokenizer, byte_level_tokenizer

BIO = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def words(text: str, tags: str, names: tuple[str, ...]) -> list[TokenLabel]:
    """A token a word, with the tags of a line like the text."""
    tokens, position = [], 0
    for number, (word, tag) in enumerate(zip(text.split(), tags.split(), strict=True)):
        start = text.index(word, position)
        position = start + len(word)
        tokens.append(TokenLabel(start, position, number, names.index(tag), 0.5 + number / 100))
    return tokens


def found(text: str, tags: str, names: tuple[str, ...], merge: Merge = Merge.ENTITIES) -> list[str]:
    entities = find_entities(text, words(text, tags, names), parse_labels(names), merge)
    return [f"{entity.label}:{text[entity.start : entity.end]}" for entity in entities]


@pytest.mark.parametrize(
    ("scheme", "tags", "expected"),
    [
        # IOB2: every entity begins with B.
        (BIO, "B-PER I-PER O B-LOC B-LOC", ["PER:Ada Lovelace", "LOC:Paris", "LOC:London"]),
        # IOB1: B only where an entity follows one of its own kind.
        (BIO, "I-PER I-PER O I-LOC B-LOC", ["PER:Ada Lovelace", "LOC:Paris", "LOC:London"]),
        (BIO, "I-PER I-LOC O O I-LOC", ["PER:Ada", "LOC:Lovelace", "LOC:London"]),
        (BIO, "B-PER I-LOC O B-LOC I-LOC", ["PER:Ada", "LOC:Lovelace", "LOC:Paris London"]),
        # Only I-, as some checkpoints have it.
        (("O", "I-PER", "I-LOC"), "I-PER I-PER O I-LOC I-LOC", ["PER:Ada Lovelace", "LOC:Paris London"]),
        (
            ("O", "B-PER", "I-PER", "E-PER", "S-PER", "S-LOC"),
            "B-PER E-PER O S-LOC S-LOC",
            ["PER:Ada Lovelace", "LOC:Paris", "LOC:London"],
        ),
        (("O", "B-X", "I-X", "E-X", "S-X"), "E-X B-X I-X E-X I-X", ["X:Ada", "X:Lovelace visited Paris", "X:London"]),
        (("O", "B-X", "I-X", "L-X", "U-X"), "U-X B-X L-X U-X O", ["X:Ada", "X:Lovelace visited", "X:Paris"]),
        # No prefixes: neighbours of one kind are one entity.
        (("O", "PER", "LOC"), "PER PER O LOC LOC", ["PER:Ada Lovelace", "LOC:Paris London"]),
        # Names that only look prefixed; and no "O" at all.
        (("B-side", "plain"), "B-side B-side plain plain plain", ["B-side:Ada Lovelace", "plain:visited Paris London"]),
    ],
)
def test_every_scheme_is_read(scheme: tuple[str, ...], tags: str, expected: list[str]) -> None:
    assert found("Ada Lovelace visited Paris London", tags, scheme) == expected


def test_words_and_tokens_are_not_merged() -> None:
    text, tags = "Ada Lovelace visited Paris", "B-PER I-PER O B-LOC"
    assert found(text, tags, BIO, Merge.WORDS) == ["PER:Ada", "PER:Lovelace", "LOC:Paris"]
    assert found(text, tags, BIO, Merge.TOKENS) == ["B-PER:Ada", "I-PER:Lovelace", "B-LOC:Paris"]


def test_what_is_outside_comes_only_when_asked_for() -> None:
    text = "Ada saw Paris"
    tokens = words(text, "B-PER O B-LOC", BIO)
    labels = parse_labels(BIO)
    inside = [entity.label for entity in find_entities(text, tokens, labels, Merge.WORDS)]
    both = [entity.label for entity in find_entities(text, tokens, labels, Merge.WORDS, include_outside=True)]
    assert inside == ["PER", "LOC"]
    assert both == ["PER", "O", "LOC"]


def test_a_word_has_the_label_of_its_first_token_and_an_entity_the_mean_score_of_its_words() -> None:
    text = "Lovelace Ada"
    tokens = [
        TokenLabel(0, 4, 0, BIO.index("B-PER"), 0.9),
        TokenLabel(4, 8, 0, BIO.index("O"), 0.2),
        TokenLabel(9, 12, 1, BIO.index("I-PER"), 0.5),
    ]
    (entity,) = find_entities(text, tokens, parse_labels(BIO), Merge.ENTITIES)
    assert (entity.start, entity.end) == (0, 12)
    assert entity.score == pytest.approx(0.7)


def nfkc_tokenizer(normalizer: normalizers.Normalizer) -> Tokenizer:
    """Pieces with a space of their own in front; any character is a piece."""
    pieces = [("<unk>", 0.0), ("\u2581", -2.0)] + [(chr(code), -3.0) for code in range(0x21, 0x250)]
    tokenizer = Tokenizer(models.Unigram(pieces, 0))
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


def lower_bert() -> Tokenizer:
    tokenizer = bert_tokenizer()
    tokenizer.normalizer = normalizers.BertNormalizer()
    return tokenizer


def roberta(trim_offsets: bool) -> Tokenizer:
    tokenizer = byte_level_tokenizer()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0), trim_offsets=trim_offsets)
    return tokenizer


TOKENIZERS = {
    "bert": lower_bert(),
    "byte level, offsets trimmed": roberta(True),
    "byte level, offsets with spaces": roberta(False),
    "byte fallback": byte_fallback_tokenizer(),
    "NFC": nfkc_tokenizer(normalizers.NFC()),
    "NFD": nfkc_tokenizer(normalizers.NFD()),
    "NFKC": nfkc_tokenizer(normalizers.NFKC()),
}
TEXTS = (
    "",
    " ",
    "\t\n ",
    "hello  world",
    " Paris \n",
    "caf\u00e9 cafe\u0301 \ufb01n",
    "👩‍👩‍👧‍👦 in 東京都 🇫🇷!",
    "مرحبا بالعالم, שלום",
    "\u200b\u200dzero\ufeff\u200b width\u200b",
    "e\u0301" * 20,
    "हिन्दी में",
    "[CLS] a </s> b",
    "\x00a\x07b",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
)


def tokens_of(name: str, text: str, labels: list[int]) -> list[TokenLabel]:
    (encoded,) = TextTokenizer(TOKENIZERS[name]).encode([text])
    rows = zip(encoded.offsets, encoded.word_ids, encoded.sequence_ids, strict=True)
    own = [(start, end, word) for (start, end), word, sequence in rows if sequence is not None]
    return [TokenLabel(*place, labels[i % len(labels)], 0.5) for i, place in enumerate(own)]


def check(text: str, tokens: list[TokenLabel], merge: Merge, include_outside: bool) -> list[str]:
    entities = list(find_entities(text, tokens, parse_labels(BIO), merge, include_outside))
    spans = [(entity.start, entity.end) for entity in entities]
    data = text.encode()
    slices = []
    last_end = 0
    for (start, end), (first, last) in zip(spans, byte_spans(text, spans), strict=True):
        assert last_end <= start < end <= len(text), "in order, not empty, not overlapping"
        piece = text[start:end]
        assert piece == piece.strip(), "no spaces around it"
        assert data[first:last].decode() == piece
        slices.append(piece)
        last_end = end
    return slices


@pytest.mark.parametrize("merge", Merge)
@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_spans_are_exact_whatever_the_tokenizer_does_to_the_text(name: str, text: str, merge: Merge) -> None:
    check(text, tokens_of(name, text, [1]), merge, include_outside=False)
    check(text, tokens_of(name, text, [0, 1, 2, 0, 3, 4]), merge, merge is not Merge.ENTITIES)


@given(st.sampled_from(sorted(TOKENIZERS)), st.text(max_size=60), st.lists(st.integers(0, 4), min_size=1, max_size=8))
def test_spans_are_exact_on_random_texts(name: str, text: str, labels: list[int]) -> None:
    tokens = tokens_of(name, text, labels)
    for merge in Merge:
        check(text, tokens, merge, merge is not Merge.ENTITIES)


@pytest.mark.parametrize("name", ["byte level, offsets trimmed", "byte level, offsets with spaces"])
def test_the_space_in_front_of_a_byte_level_token_is_not_part_of_it(name: str) -> None:
    text = "the  capital is Paris."
    labelled = tokens_of(name, text, [1])
    assert check(text, labelled, Merge.WORDS, include_outside=False) == ["the", "capital", "is", "Paris", "."]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_an_accent_belongs_to_its_letter(name: str) -> None:
    text = "cafe\u0301 a"
    slices = check(text, tokens_of(name, text, [1]), Merge.WORDS, include_outside=False)
    assert slices[0].endswith("e\u0301") or name == "byte fallback"
    assert slices[-1] == "a"


def test_tokens_of_one_character_are_one() -> None:
    text = "👩 x"
    assert check(text, tokens_of("byte level, offsets trimmed", text, [1]), Merge.TOKENS, False) == ["👩", "x"]


def test_spaces_end_a_word_where_the_tokenizer_knows_no_words() -> None:
    text = "hello world"
    assert check(text, tokens_of("byte fallback", text, [1]), Merge.WORDS, False) == ["hello", "world"]
