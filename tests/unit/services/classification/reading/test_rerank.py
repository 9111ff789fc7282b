"""Rerank."""

from typing import Any

import grpc
import pytest
from naiad.v1 import classification_pb2 as pb

from tests.support.fake_triton import FakeTriton
from tests.support.rpc_failure import failure
from tests.unit.services.classification.reading.expected_failures import NOT_FOUND, WRONG_TASK, Failure, invalid
from tests.unit.services.classification.reading.models import CLS_ID, SEP_ID, VOCABULARY

pytestmark = pytest.mark.asyncio(loop_scope="module")

QUERY = "the cat"
DOCUMENTS = ("dog", "the cat saw", "cat", "the dog and the cat", "cat and")


async def rerank(stub: Any, model: str = "ranker", documents: Any = DOCUMENTS, **fields: Any) -> pb.RerankResponse:
    response: pb.RerankResponse = await stub.Rerank(
        pb.RerankRequest(**{"model": model, "query": QUERY, "documents": documents, **fields})
    )
    return response


def order(response: pb.RerankResponse) -> list[int]:
    return [document.index for document in response.results]


async def test_a_cross_encoder_reads_query_and_document_together(stub: Any, triton: FakeTriton) -> None:
    response = await rerank(stub)
    assert order(response) == [1, 3, 2, 4, 0]  # two words in common, then one, then none; equal ones in their order
    assert response.method == pb.SCORING_METHOD_CROSS_ENCODER
    # One label: its logit through a sigmoid, whatever a checkpoint says of softmax.
    assert [round(document.score, 4) for document in response.results] == [0.8808, 0.8808, 0.7311, 0.7311, 0.5]
    assert not response.errors and not response.results[0].HasField("document")
    words = [VOCABULARY[word] for word in QUERY.split()]
    expected = [CLS_ID, *words, SEP_ID, VOCABULARY["dog"], SEP_ID]
    assert triton.requests[0].inputs["input_ids"][: len(expected)] == expected
    assert triton.requests[0].inputs["token_type_ids"][: len(expected)] == [0, 0, 0, 0, 1, 1]
    assert response.timings.queue.ToMicroseconds() >= 30


async def test_a_model_with_a_label_relevant_ranks_too(stub: Any) -> None:
    response = await rerank(stub, "two_sided")
    assert order(response) == [1, 3, 2, 4, 0]
    assert response.results[0].score == pytest.approx(0.982, abs=1e-3)  # softmax of 2 and -2


async def test_a_model_that_embeds_ranks_by_cosine(stub: Any) -> None:
    response = await rerank(stub, "embed", [QUERY, "dog", "the", "", "cat the"])
    assert response.method == pb.SCORING_METHOD_EMBEDDING
    assert order(response) == [0, 4, 2, 1, 3]
    assert [round(document.score, 4) for document in response.results] == [1, 1, 0.7071, 0, 0]


@pytest.mark.parametrize("model", ["ranker", "embed"])
async def test_more_are_asked_for_than_there_are(stub: Any, model: str) -> None:
    assert len((await rerank(stub, model, top_k=2)).results) == 2
    assert len((await rerank(stub, model, top_k=99)).results) == len(DOCUMENTS)


@pytest.mark.parametrize("model", ["ranker", "embed"])
async def test_documents_come_back_when_asked_for(stub: Any, model: str) -> None:
    response = await rerank(stub, model, return_documents=True)
    assert [document.document for document in response.results] == [DOCUMENTS[i] for i in order(response)]


LONG = "cat " * 30


@pytest.mark.parametrize("model", ["ranker", "embed"])
async def test_a_document_that_is_too_long_does_not_fail_the_others(stub: Any, model: str) -> None:
    response = await rerank(stub, model, ["dog", LONG, "cat", "x" * (1024 * 1024 + 1)])
    assert order(response) == [2, 0]
    assert [error.index for error in response.errors] == [1, 3]
    messages = [error.error.message for error in response.errors]
    assert messages[0].startswith("documents[1]: has 3") and "set truncate" in messages[0]
    assert messages[1].startswith("documents[3]: more than 1048576 bytes")
    assert response.errors[0].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_the_document_is_cut_and_the_query_stays(stub: Any, triton: FakeTriton) -> None:
    query = "the cat saw the dog and"
    response = await stub.Rerank(pb.RerankRequest(model="ranker", query=query, documents=[LONG, "dog"], truncate=True))
    assert not response.errors
    assert triton.requests[0].inputs["sequence_lengths"] == [12, 10]
    ids = triton.requests[0].inputs["input_ids"]
    assert ids[1:7] == [VOCABULARY[word] for word in query.split()]
    assert ids[8:11] == [VOCABULARY["cat"]] * 3


@pytest.mark.parametrize("truncate", [False, True])
async def test_a_query_that_leaves_no_room_is_refused(stub: Any, truncate: bool) -> None:
    call = stub.Rerank(pb.RerankRequest(model="ranker", query="cat " * 9, documents=["dog"], truncate=truncate))
    assert await failure(call) == invalid("query")
    just_fits = pb.RerankRequest(model="ranker", query="cat " * 8, documents=["dog"], truncate=truncate)
    assert len((await stub.Rerank(just_fits)).results) == 1


async def test_a_long_query_of_a_model_that_embeds_is_refused_or_cut(stub: Any) -> None:
    request = pb.RerankRequest(model="embed", query=LONG, documents=["cat"])
    assert await failure(stub.Rerank(request)) == invalid("query")
    request.truncate = True
    assert (await stub.Rerank(request)).results[0].score == pytest.approx(1)


@pytest.mark.parametrize("model", ["ranker", "embed"])
@pytest.mark.parametrize("text", ["", "  ", "\u200b\u200d", "مرحبا", "👩‍👩‍👧‍👦", "\x00"])
async def test_odd_texts_are_ranked(stub: Any, model: str, text: str) -> None:
    response = await stub.Rerank(pb.RerankRequest(model=model, query=text, documents=[text, "cat"]))
    assert sorted(order(response)) == [0, 1]


@pytest.mark.parametrize("model", ["ranker", "embed"])
async def test_ten_thousand_documents_and_a_query_of_a_megabyte(stub: Any, model: str) -> None:
    documents = ["dog"] * 9_999 + ["cat"]
    assert order(await rerank(stub, model, documents, top_k=1)) == [9_999]
    call = stub.Rerank(pb.RerankRequest(model=model, query="cat " * 250_000, documents=documents))
    assert await failure(call) == invalid("query")


async def test_the_scores_do_not_depend_on_the_other_documents(stub: Any) -> None:
    for model in ("ranker", "embed"):
        together = {document.index: document.score for document in (await rerank(stub, model)).results}
        for index, document in enumerate(DOCUMENTS):
            assert (await rerank(stub, model, [document])).results[0].score == together[index]


async def test_a_response_that_would_be_too_large_is_refused(stub: Any, triton: FakeTriton) -> None:
    documents = ["x" * 1024 * 1024, "y" * 1024 * 1024]
    call = stub.Rerank(pb.RerankRequest(model="ranker", query="cat", documents=documents, return_documents=True))
    assert await failure(call) == invalid("documents")
    assert triton.requests == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nobody"}, NOT_FOUND),
        ({"model": "chat"}, WRONG_TASK),
        ({"model": "tagger"}, WRONG_TASK),
        ({"model": "plain"}, WRONG_TASK),
        ({"documents": []}, invalid("documents")),
        ({"documents": ["a"] * 10_001}, invalid("documents")),
        ({"query": "x" * (1024 * 1024 + 1)}, invalid("query")),
        ({"top_k": 0}, invalid("top_k")),
        ({"top_k": -1, "model": "embed"}, invalid("top_k")),
    ],
)
async def test_wrong_requests_are_refused_with_their_field(
    stub: Any, triton: FakeTriton, fields: dict[str, Any], expected: Failure
) -> None:
    call = stub.Rerank(pb.RerankRequest(**{"model": "ranker", "query": QUERY, "documents": ["cat"], **fields}))
    assert await failure(call) == expected
    assert triton.requests == []


async def test_a_classifier_that_cannot_rank_is_named(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="'plain' is no cross-encoder: it has neither one label nor a label"):
        await rerank(stub, "plain")
