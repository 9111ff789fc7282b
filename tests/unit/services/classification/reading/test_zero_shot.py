"""ClassifyZeroShot."""

from typing import Any

import grpc
import pytest
from naiad.v1 import classification_pb2 as pb

from tests.support.fake_triton import FakeTriton
from tests.support.rpc_failure import failure
from tests.unit.services.classification.reading.expected_failures import NOT_FOUND, WRONG_TASK, Failure, invalid
from tests.unit.services.classification.reading.models import VOCABULARY

pytestmark = pytest.mark.asyncio(loop_scope="module")

LABELS = ["dogs", "cats"]


async def score(stub: Any, model: str, *texts: str, **fields: Any) -> pb.ClassifyZeroShotResponse:
    values = {"model": model, "texts": texts, "labels": LABELS, "hypothesis_template": "about {}", **fields}
    response: pb.ClassifyZeroShotResponse = await stub.ClassifyZeroShot(pb.ClassifyZeroShotRequest(**values))
    return response


def scores(result: pb.ClassifyResult) -> list[tuple[str, int, float]]:
    return [(found.label, found.index, round(found.score, 4)) for found in result.classification.scores]


async def test_an_nli_model_judges_each_label(stub: Any, triton: FakeTriton) -> None:
    response = await score(stub, "nli", "the cats", "dogs")
    assert response.method == pb.SCORING_METHOD_ENTAILMENT
    # Entailment logits 2 and 0.
    assert scores(response.results[0]) == [("cats", 1, 0.8808), ("dogs", 0, 0.1192)]
    assert scores(response.results[1]) == [("dogs", 0, 0.8808), ("cats", 1, 0.1192)]
    assert [result.classification.tokens for result in response.results] == [5, 4]
    about, dogs = VOCABULARY["about"], VOCABULARY["dogs"]
    assert triton.requests[0].inputs["input_ids"][:7] == [1, VOCABULARY["the"], VOCABULARY["cats"], 2, about, dogs, 2]
    assert triton.requests[0].inputs["sequence_lengths"] == [7, 7, 6, 6]


async def test_with_several_labels_each_stands_alone(stub: Any) -> None:
    response = await score(stub, "nli", "cats dogs", "the", multi_label=True)
    # Entailment 2 against contradiction 0; and 0 against 2.
    assert scores(response.results[0]) == [("dogs", 0, 0.8808), ("cats", 1, 0.8808)]
    assert scores(response.results[1]) == [("dogs", 0, 0.1192), ("cats", 1, 0.1192)]


async def test_a_model_that_embeds_compares_vectors(stub: Any) -> None:
    response = await score(stub, "embed", "cats", "about cats")
    assert response.method == pb.SCORING_METHOD_EMBEDDING
    # Cosines 0.7071 and 0 over a temperature of 0.05; 1 and 0.5.
    assert scores(response.results[0]) == [("cats", 1, 1.0), ("dogs", 0, 0.0)]
    assert scores(response.results[1]) == [("cats", 1, 1.0), ("dogs", 0, 0.0)]
    multi = await score(stub, "embed", "cats", "about cats", multi_label=True)
    assert scores(multi.results[0]) == [("cats", 1, 0.8536), ("dogs", 0, 0.5)]
    assert scores(multi.results[1]) == [("cats", 1, 1.0), ("dogs", 0, 0.75)]


async def test_scores_of_one_text_sum_to_one(stub: Any) -> None:
    for model in ("nli", "embed"):
        response = await score(stub, model, "the cat", labels=["cat", "the cat", "dog"])
        found = response.results[0].classification.scores
        assert sum(label.score for label in found) == pytest.approx(1)


async def test_vectors_of_labels_are_computed_once(stub: Any, triton: FakeTriton) -> None:
    first = await score(stub, "embed", "york", labels=["new", "york"])
    again = await score(stub, "embed", "york", labels=["new", "york", "paris"])
    assert [len(request.inputs["sequence_lengths"]) for request in triton.requests] == [3, 2]
    assert scores(first.results[0]) == scores(again.results[0])[:2]


async def test_one_label_has_all_of_it(stub: Any) -> None:
    for model in ("nli", "embed"):
        assert scores((await score(stub, model, "the", labels=["cats"])).results[0]) == [("cats", 0, 1.0)]


LONG = "cat " * 30


@pytest.mark.parametrize("model", ["nli", "embed"])
async def test_a_text_that_is_too_long_is_an_error_or_cut(stub: Any, triton: FakeTriton, model: str) -> None:
    response = await score(stub, model, "cats", LONG, "x" * (1024 * 1024 + 1))
    kinds = [result.WhichOneof("outcome") for result in response.results]
    assert kinds == ["classification", "error", "error"]
    assert response.results[1].error.message.startswith("texts[1]: has 3")
    cut = await score(stub, model, LONG, truncate=True, labels=["dogs", "cats and dogs"])
    assert cut.results[0].WhichOneof("outcome") == "classification"
    assert max(triton.requests[-1].inputs["sequence_lengths"]) == 12


async def test_only_bad_texts_ask_the_engine_for_nothing(stub: Any, triton: FakeTriton) -> None:
    response = await score(stub, "nli", LONG)
    assert response.results[0].HasField("error")
    assert triton.requests == []


@pytest.mark.parametrize("model", ["nli", "embed"])
@pytest.mark.parametrize("text", ["", "  ", "\u200b\u200d", "مرحبا", "👩‍👩‍👧‍👦", "{}"])
async def test_odd_texts_and_labels_are_scored(stub: Any, model: str, text: str) -> None:
    response = await score(stub, model, text, labels=["\u200b", "مرحبا", "{}"])
    assert len(response.results[0].classification.scores) == 3


async def test_ten_thousand_texts(stub: Any) -> None:
    for model in ("nli", "embed"):
        assert len((await score(stub, model, *["cats"] * 10_000)).results) == 10_000


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nobody"}, NOT_FOUND),
        ({"model": "chat"}, WRONG_TASK),
        ({"model": "tagger"}, WRONG_TASK),
        ({"model": "plain"}, WRONG_TASK),
        ({"texts": []}, invalid("texts")),
        ({"texts": ["a"] * 10_001}, invalid("texts")),
        ({"texts": ["a"] * 10_000, "labels": [f"label {i}" for i in range(100)]}, invalid("texts")),
        ({"labels": []}, invalid("labels")),
        ({"labels": [str(i) for i in range(101)]}, invalid("labels")),
        ({"labels": ["a", " ", "b", "a"]}, invalid("labels[1]", "labels[3]")),
        ({"labels": ["a", "é" * 513, "b", "c" * 1025]}, invalid("labels[1]", "labels[3]")),
        ({"labels": ["cats", "cat " * 12]}, invalid("labels[1]")),
        ({"labels": ["cats", "cat " * 12], "model": "embed"}, invalid("labels[1]")),
        ({"hypothesis_template": ""}, invalid("hypothesis_template")),
        ({"hypothesis_template": "about cats"}, invalid("hypothesis_template")),
        ({"hypothesis_template": "{} and {}"}, invalid("hypothesis_template")),
        ({"hypothesis_template": "{}" + "x" * 1023}, invalid("hypothesis_template")),
    ],
)
async def test_wrong_requests_are_refused_with_their_field(
    stub: Any, triton: FakeTriton, fields: dict[str, Any], expected: Failure
) -> None:
    values = {"model": "nli", "texts": ["cat"], "labels": LABELS, **fields}
    assert await failure(stub.ClassifyZeroShot(pb.ClassifyZeroShotRequest(**values))) == expected
    assert triton.requests == []


async def test_pairs_of_too_many_tokens_together_are_refused(stub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.classification.pair_inputs.MAX_PAIR_TOKENS", 100)
    call = stub.ClassifyZeroShot(pb.ClassifyZeroShotRequest(model="nli", texts=["cat"] * 10, labels=LABELS))
    assert await failure(call) == invalid("texts")


async def test_a_model_that_cannot_judge_is_named(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="'plain' cannot score labels"):
        await score(stub, "plain", "cat")
