"""Entities, ranking and labels of the call's own on the real models, as a client calls them."""

import json
from typing import Any

import grpc
import pytest
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

DOCUMENTS = (
    "The cat sat on the windowsill and watched birds.",
    "Central banks raise interest rates to slow inflation.",
    "Photosynthesis turns sunlight, water and carbon dioxide into sugar.",
    "The striker scored twice in the final minutes of the match.",
)
ENTITIES_MODEL = "entities"
ODD_TEXTS = ("", "   ", "\u200b\u200d\ufeff", "مرحبا بالعالم", "👩‍👩‍👧‍👦 東京", "e\u0301" * 40, "\x00")


@pytest.fixture(scope="module")
def stub(stack: Stack) -> Any:
    return classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification"))


@pytest.fixture(params=["embed", "pairs"])
def ranking_model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["embed", "topics"])
def judging_model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def refusal(call: Any, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, timeout=120)
    assert isinstance(caught.value, grpc.Call)
    return caught.value.code(), caught.value.details() or ""


def ranked(stub: Any, model: str, query: str, documents: Any, **options: Any) -> dict[int, float]:
    """Scores by document, best first."""
    request = pb.RerankRequest(model=model, query=query, documents=documents, **options)
    return {result.index: result.score for result in stub.Rerank(request, timeout=300).results}


def test_the_document_that_answers_comes_first(stub: Any) -> None:
    for query, best in (
        ("How do plants make their food?", 2),
        ("Why do loans become more expensive?", 1),
        ("Who won the football game?", 3),
    ):
        assert next(iter(ranked(stub, "embed", query, DOCUMENTS))) == best
    request = pb.RerankRequest(model="embed", query="pets", documents=DOCUMENTS, top_k=99, return_documents=True)
    response = stub.Rerank(request, timeout=60)
    assert response.method == pb.SCORING_METHOD_EMBEDDING
    assert [result.document for result in response.results] == [DOCUMENTS[result.index] for result in response.results]


def test_scores_of_documents_do_not_depend_on_the_others(stub: Any, ranking_model: str) -> None:
    documents = [*DOCUMENTS, *(" ".join(DOCUMENTS) for _ in range(30)), *ODD_TEXTS]
    together = ranked(stub, ranking_model, "sugar", documents)
    assert sorted(together) == list(range(len(documents)))
    for index in (0, 2, 5, len(documents) - 1):
        alone = ranked(stub, ranking_model, "sugar", [documents[index]])
        assert alone[0] == pytest.approx(together[index], abs=1e-5)


def test_ten_thousand_documents_and_one_of_a_megabyte(stub: Any) -> None:
    documents = ["a"] * 9_998 + ["sugar", "sugar " * 170_000]
    response = stub.Rerank(pb.RerankRequest(model="embed", query="sugar", documents=documents, top_k=1), timeout=300)
    assert [result.index for result in response.results] == [9_998]
    assert [error.index for error in response.errors] == [9_999]
    cut = ranked(stub, "embed", "sugar", ["a", "sugar " * 170_000], truncate=True)
    assert list(cut) == [1, 0]


def test_labels_of_the_call_fit_their_texts(stub: Any) -> None:
    labels = ["animals", "economics", "biology", "sports"]
    request = pb.ClassifyZeroShotRequest(model="embed", texts=DOCUMENTS, labels=labels)
    response = stub.ClassifyZeroShot(request, timeout=60)
    assert response.method == pb.SCORING_METHOD_EMBEDDING
    best = [result.classification.scores[0] for result in response.results]
    assert [score.label for score in best] == labels
    assert [score.index for score in best] == [0, 1, 2, 3]
    for result in response.results:
        assert sum(score.score for score in result.classification.scores) == pytest.approx(1, abs=1e-5)


def test_odd_texts_and_labels_are_scored_and_the_same_alone(stub: Any, judging_model: str) -> None:
    texts = [*ODD_TEXTS, *DOCUMENTS]
    labels = ["food", "رياضة", "東京", "👩‍👩‍👧‍👦"]
    for multi_label in (False, True):

        def scores(*some: str, several: bool = multi_label) -> list[list[float]]:
            request = pb.ClassifyZeroShotRequest(model=judging_model, texts=some, labels=labels, multi_label=several)
            results = stub.ClassifyZeroShot(request, timeout=120).results
            return [[score.score for score in result.classification.scores] for result in results]

        together = scores(*texts)
        assert all(0 <= score <= 1 for row in together for score in row)
        for index in (0, 3, len(texts) - 1):
            assert scores(texts[index])[0] == pytest.approx(together[index], abs=1e-5)


def test_models_for_something_else_are_refused_by_name(stub: Any) -> None:
    tokens, labels = pb.ClassifyTokensRequest, pb.ClassifyZeroShotRequest
    for model, code in (
        ("chat", grpc.StatusCode.FAILED_PRECONDITION),
        ("sentiment", grpc.StatusCode.FAILED_PRECONDITION),
        ("nobody", grpc.StatusCode.NOT_FOUND),
    ):
        for call, request in (
            (stub.ClassifyTokens, tokens(model=model, texts=["a"])),
            (stub.Rerank, pb.RerankRequest(model=model, query="a", documents=["b"])),
            (stub.ClassifyZeroShot, labels(model=model, texts=["a"], labels=["b"])),
        ):
            found, message = refusal(call, request)
            assert (found, model in message) == (code, True)
    assert refusal(stub.ClassifyTokens, tokens(model="embed", texts=["a"]))[0] == grpc.StatusCode.FAILED_PRECONDITION


def test_a_sentence_that_is_too_long_for_a_label_is_refused(stub: Any) -> None:
    request = pb.ClassifyZeroShotRequest(model="embed", texts=["a"], labels=["ok", "a " * 400])
    code, message = refusal(stub.ClassifyZeroShot, request)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert message.startswith("labels[1]: ")


def test_commands_read_texts(stack: Stack) -> None:
    done = stack.run_cli("rerank", "--json", "--top-k", "1", "How do plants eat?", *DOCUMENTS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["document"] == DOCUMENTS[2]
    done = stack.run_cli("zero-shot", "-l", "sports", "-l", "biology", stdin="\n".join(DOCUMENTS[2:]))
    assert done.returncode == 0, done.stderr
    assert [line.split()[-3] for line in done.stdout.splitlines()[1::2]] == ["biology", "sports"]


def found(stub: Any, model: str, *texts: str, **options: Any) -> list[list[tuple[str, str, int]]]:
    """Label, text and first code point of each entity of each text; spans are checked."""
    results = stub.ClassifyTokens(pb.ClassifyTokensRequest(model=model, texts=texts, **options), timeout=300).results
    rows = []
    for text, result in zip(texts, results, strict=True):
        assert result.WhichOneof("outcome") == "entities", result
        last_end = 0
        for entity in result.entities.entities:
            span = entity.span
            assert last_end <= span.start_char < span.end_char
            assert text[span.start_char : span.end_char] == entity.text == entity.text.strip()
            assert text.encode()[span.start_byte : span.end_byte].decode() == entity.text
            assert 0 <= entity.score <= 1
            last_end = span.end_char
        rows.append([(entity.label, entity.text, entity.span.start_char) for entity in result.entities.entities])
    return rows


def test_entities_index_the_text_exactly_alone_and_together(stub: Any) -> None:
    sentence = "Yesterday Maria Schmidt flew from Berlin to Nairobi, Kenya."
    texts = [sentence, f"  👩‍👩‍👧‍👦 \u200b{sentence}", sentence.replace("a", "a\u0301"), *ODD_TEXTS]
    together = found(stub, ENTITIES_MODEL, *texts)
    assert {"Berlin", "Nairobi"} & {text for _, text, _ in together[0]}
    for text, entities in zip(texts, together, strict=True):
        assert found(stub, ENTITIES_MODEL, text) == [entities]
    for merge in (pb.ENTITY_MERGE_WORDS, pb.ENTITY_MERGE_TOKENS):
        found(stub, ENTITIES_MODEL, *texts, merge=merge, include_outside=True)


def test_long_texts_and_many_texts_have_entities(stub: Any) -> None:
    sentence = "Yesterday Maria Schmidt flew from Berlin to Nairobi, Kenya. "
    (once,) = found(stub, ENTITIES_MODEL, sentence)
    (all_of_them,) = found(stub, ENTITIES_MODEL, sentence * 200, window_overlap_tokens=64)
    assert len(all_of_them) > 150 * len(once) > 0
    code, _ = refusal(stub.ClassifyTokens, pb.ClassifyTokensRequest(model=ENTITIES_MODEL, texts=["a"] * 10_001))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert len(found(stub, ENTITIES_MODEL, *["Berlin"] * 10_000)) == 10_000
    found(stub, ENTITIES_MODEL, "a b " * 262_144, truncate=True)
