"""ClassifyTokens."""

from typing import Any

import grpc
import pytest
from naiad.v1 import classification_pb2 as pb

from tests.support.fake_triton import FakeTriton
from tests.support.rpc_failure import failure
from tests.unit.services.classification.reading.expected_failures import NOT_FOUND, WRONG_TASK, Failure, invalid
from tests.unit.services.classification.reading.models import CONTEXT_TOKENS

pytestmark = pytest.mark.asyncio(loop_scope="module")


def request(*texts: str, **fields: Any) -> pb.ClassifyTokensRequest:
    return pb.ClassifyTokensRequest(model="tagger", texts=texts, **fields)


def names(result: pb.ClassifyTokensResult) -> list[str]:
    return [f"{entity.label}:{entity.text}" for entity in result.entities.entities]


async def test_entities_have_labels_scores_and_exact_spans(stub: Any) -> None:
    text = "  ada lovelace 👩 saw\tnew york"
    response = await stub.ClassifyTokens(request(text))
    first, second = response.results[0].entities.entities
    assert (first.label, first.text) == ("PER", "ada lovelace")
    assert (first.span.start_char, first.span.end_char) == (2, 14)
    assert (first.span.start_byte, first.span.end_byte) == (2, 14)
    assert (second.label, second.text) == ("LOC", "new york")
    assert (second.span.start_char, second.span.end_char) == (21, 29)
    assert (second.span.start_byte, second.span.end_byte) == (24, 32)
    assert first.score == pytest.approx(0.9317, abs=1e-3)  # softmax of one 4 among five logits
    assert response.results[0].entities.tokens == 8
    assert response.timings.compute.ToMicroseconds() == 400


async def test_merges(stub: Any) -> None:
    text = "ada lovelace saw paris"
    words = await stub.ClassifyTokens(request(text, merge=pb.ENTITY_MERGE_WORDS))
    assert names(words.results[0]) == ["PER:ada", "PER:lovelace", "LOC:paris"]
    tokens = await stub.ClassifyTokens(request(text, merge=pb.ENTITY_MERGE_TOKENS, include_outside=True))
    assert names(tokens.results[0]) == ["B-PER:ada", "I-PER:lovelace", "O:saw", "B-LOC:paris"]


async def test_entities_below_the_least_score_are_left_out(stub: Any) -> None:
    response = await stub.ClassifyTokens(request("ada", min_score=0.95))
    assert names(response.results[0]) == []
    assert response.results[0].entities.tokens == 3


@pytest.mark.parametrize("text", ["", " ", "\t\n  ", "\u200b", "مرحبا بالعالم", "the \x00 cat"])
async def test_texts_without_entities_are_answered(stub: Any, text: str) -> None:
    response = await stub.ClassifyTokens(request(text, "ada"))
    assert response.results[0].WhichOneof("outcome") == "entities"
    assert names(response.results[0]) == []
    assert names(response.results[1]) == ["PER:ada"]


LONG = "ada lovelace " * 3 + "the " * 8 + "new york"


async def test_a_long_text_is_an_error_a_cut_or_windows(stub: Any, triton: FakeTriton) -> None:
    failed = (await stub.ClassifyTokens(request(LONG, "ada"))).results
    assert failed[0].error.message.startswith("texts[0]: has 18 tokens, more than the model's 12")
    assert names(failed[1]) == ["PER:ada"]
    cut = (await stub.ClassifyTokens(request(LONG, truncate=True))).results[0]
    assert names(cut) == ["PER:ada lovelace"] * 3
    assert cut.entities.tokens == CONTEXT_TOKENS
    triton.requests.clear()
    read = (await stub.ClassifyTokens(request(LONG, window_overlap_tokens=4))).results[0]
    assert names(read) == [*["PER:ada lovelace"] * 3, "LOC:new york"]
    assert read.entities.tokens == 18
    assert triton.requests[0].inputs["sequence_lengths"] == [12, 12]


@pytest.mark.parametrize("overlap", range(7))
async def test_windows_find_what_the_whole_text_has(stub: Any, overlap: int) -> None:
    text = " ".join(["ada", "lovelace", "the"] * 20)
    (result,) = (await stub.ClassifyTokens(request(text, window_overlap_tokens=overlap))).results
    assert names(result) == ["PER:ada lovelace"] * 20
    assert [entity.span.start_char for entity in result.entities.entities] == [17 * i for i in range(20)]


async def test_ten_thousand_texts(stub: Any) -> None:
    response = await stub.ClassifyTokens(request(*["ada"] * 10_000))
    assert len(response.results) == 10_000
    assert {result.entities.entities[0].text for result in response.results} == {"ada"}


async def test_a_text_of_a_megabyte_is_read_in_windows(stub: Any) -> None:
    text = "the " * 200_000 + "ada lovelace"
    (result,) = (await stub.ClassifyTokens(request(text, window_overlap_tokens=2))).results
    assert names(result) == ["PER:ada lovelace"]
    assert result.entities.entities[0].span.start_byte == 800_000
    (too_large,) = (await stub.ClassifyTokens(request("x" * (1024 * 1024 + 1)))).results
    assert "texts[0]: more than 1048576 bytes" in too_large.error.message


async def test_a_response_that_would_be_too_large_is_refused(stub: Any, triton: FakeTriton) -> None:
    everything = request("the cat " * 100_000, merge=pb.ENTITY_MERGE_WORDS, include_outside=True)
    everything.window_overlap_tokens = 0
    code, reason, fields = await failure(stub.ClassifyTokens(everything))
    assert (code, reason, fields) == invalid("texts")
    assert triton.requests == []
    assert await failure(stub.ClassifyTokens(request("ada the " * 50_000, window_overlap_tokens=0))) == invalid("texts")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nobody"}, NOT_FOUND),
        ({"model": "chat"}, WRONG_TASK),
        ({"model": "plain"}, WRONG_TASK),
        ({"model": "embed"}, WRONG_TASK),
        ({"texts": []}, invalid("texts")),
        ({"texts": ["a"] * 10_001}, invalid("texts")),
        ({"merge": 9}, invalid("merge")),
        ({"min_score": float("nan")}, invalid("min_score")),
        ({"min_score": -0.1}, invalid("min_score")),
        ({"min_score": 1.1}, invalid("min_score")),
        ({"include_outside": True}, invalid("include_outside")),
        ({"include_outside": True, "merge": pb.ENTITY_MERGE_ENTITIES}, invalid("include_outside")),
        ({"window_overlap_tokens": -1}, invalid("window_overlap_tokens")),
        ({"window_overlap_tokens": CONTEXT_TOKENS // 2 + 1}, invalid("window_overlap_tokens")),
        ({"window_overlap_tokens": 1, "truncate": True}, invalid("window_overlap_tokens")),
    ],
)
async def test_wrong_requests_are_refused_with_their_field(
    stub: Any, triton: FakeTriton, fields: dict[str, Any], expected: Failure
) -> None:
    call = stub.ClassifyTokens(pb.ClassifyTokensRequest(**{"model": "tagger", "texts": ["ada"], **fields}))
    assert await failure(call) == expected
    assert triton.requests == []


async def test_half_a_surrogate_is_no_text(channel: grpc.aio.Channel) -> None:
    """No client that keeps to the protocol can send one; its bytes are refused as no message."""
    with pytest.raises((ValueError, UnicodeEncodeError)):
        request("\ud800")
    wire = request("???").SerializeToString().replace(b"???", b"\xed\xa0\x80")
    call = channel.unary_unary("/naiad.v1.ClassificationService/ClassifyTokens")(wire)
    assert await failure(call) == invalid("request")
