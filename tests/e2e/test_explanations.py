"""Explain on the real stack."""

from typing import Any

import pytest
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

TEXT = "A wonderful cast, but what a dull and lifeless film."


@pytest.fixture
def stub(stack: Stack) -> classification_pb2_grpc.ClassificationServiceStub:
    return classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))


def explain(stub: classification_pb2_grpc.ClassificationServiceStub, text: str, **options: Any) -> pb.ExplainResponse:
    options = {"model": "sentiment", "text": text, **options}
    return stub.Explain(pb.ExplainRequest(**options), timeout=120)


def test_words_of_feeling_move_the_score_and_all_of_them_sum_up(
    stub: classification_pb2_grpc.ClassificationServiceStub,
) -> None:
    answer = explain(stub, TEXT, label="positive")
    shares = {word.word: word.contribution for word in answer.words}
    assert max(shares, key=lambda word: shares[word]) == "wonderful"
    assert min(shares, key=lambda word: shares[word]) in ("dull", "lifeless")
    assert sum(shares.values()) == pytest.approx(answer.score - answer.baseline_score, abs=1e-5)
    assert answer.samples <= 512 and answer.fidelity > 0
    again = explain(stub, TEXT, label="positive")
    answer.ClearField("timings"), again.ClearField("timings")
    assert again == answer
    scored = stub.Classify(pb.ClassifyRequest(model="sentiment", texts=[TEXT])).results[0].classification
    assert answer.score == pytest.approx(
        next(score.score for score in scored.scores if score.label == "positive"), abs=1e-6
    )


def test_few_words_are_explained_exactly_and_samples_come_near(
    stub: classification_pb2_grpc.ClassificationServiceStub,
) -> None:
    text = "A dull film, not a wonderful one"
    exact = explain(stub, text, label="positive", max_samples=512)
    sampled = explain(stub, text, label="positive", max_samples=128, seed=3)
    assert exact.samples == 2 ** len(exact.words)
    for one, other in zip(sampled.words, exact.words, strict=True):
        assert one.contribution == pytest.approx(other.contribution, abs=4 * one.standard_error + 1e-3)


def test_occlusion_is_what_leaving_a_word_out_changes(stub: classification_pb2_grpc.ClassificationServiceStub) -> None:
    answer = explain(stub, "dull film", label="negative", method=pb.EXPLAIN_METHOD_OCCLUSION)
    assert [word.word for word in answer.words] == ["dull", "film"]
    without = stub.Classify(pb.ClassifyRequest(model="sentiment", texts=["[MASK] film", "dull [MASK]"])).results
    for word, result in zip(answer.words, without, strict=True):
        score = next(one.score for one in result.classification.scores if one.label == "negative")
        assert word.contribution == pytest.approx(answer.score - score, abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "\u200b\u200d",
        "film",
        "e\u0301te\u0301 \u202eفيلم رائع\u202c 電影很好 👩‍👩‍👧‍👦 don't",
        "a\x00b  \n\tc",
        "x" * 100_000,
    ],
)
def test_spans_index_the_original_text(stub: classification_pb2_grpc.ClassificationServiceStub, text: str) -> None:
    answer = explain(stub, text, max_samples=16)
    encoded = text.encode()
    last = 0
    for word in answer.words:
        assert text[word.span.start_char : word.span.end_char] == word.word != ""
        assert encoded[word.span.start_byte : word.span.end_byte].decode() == word.word
        assert word.span.start_char >= last
        last = word.span.end_char
    assert bool(answer.words) == bool(text.strip("\u200b\u200d \t"))


def test_a_text_that_is_too_long_names_its_field(stack: Stack) -> None:
    result = stack.run_cli("explain", "-", stdin="good " * 2_000)
    assert result.returncode == 1
    assert "text: has 2002 tokens, more than the model's 512" in result.stderr
    assert stack.run_cli("explain", "--truncate", "--samples", "16", "-", stdin="good " * 2_000).returncode == 0
    assert "fidelity" in stack.run_cli("explain", "A wonderful film.").stdout
