"""ClassificationService over gRPC, with Triton faked behind its own protocol."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc, common_pb2

from services.classification.app import SERVICE_NAME, build
from services.common.settings import ClassificationSettings
from tests.support.fake_triton import FakeTriton, infer_response
from tests.support.rpc_failure import failure
from tests.support.running_service import running, wait_for_health
from tests.unit.services.classification.tiny_encoders import LABELS, FakeChannel, write_repository

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def answer(request: Any) -> Any:
    """What FakeChannel computes, as Triton sends it."""
    name = request.outputs[0].name
    tensor = FakeChannel.compute(request, name)
    return infer_response(request.id, {name: tensor}, {"queue_us": 30, "compute_us": 2_000_000}, final=True)


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    fake.infer = answer
    await fake.start()
    yield fake
    await fake.die()


@pytest.fixture
async def settings(triton: FakeTriton, tmp_path: Path) -> ClassificationSettings:
    return ClassificationSettings(
        model_repository=write_repository(tmp_path / "models"),
        triton_address=triton.address,
        triton_probe_interval_ms=20,
        triton_probe_timeout_ms=200,
        triton_stall_timeout_ms=400,
        canary_interval_ms=0,  # tests count what the fake is asked
        max_response_bytes=65_536,
    )


@pytest.fixture
async def channel(settings: ClassificationSettings) -> AsyncIterator[grpc.aio.Channel]:
    async with running(build(settings), settings) as (_, opened):
        await wait_for_health(opened, SERVICE_NAME, SERVING)
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return classification_pb2_grpc.ClassificationServiceStub(channel)


async def test_classify_answers_per_item_with_labels_tokens_and_timings(stub: Any) -> None:
    texts = ["one", "one two three four five", "two"]
    response = await stub.Classify(pb.ClassifyRequest(model="sentiment", texts=texts, top_k=2))
    assert [result.WhichOneof("outcome") for result in response.results] == [
        "classification",
        "error",
        "classification",
    ]
    first = response.results[0].classification
    assert [(score.label, score.index, score.score) for score in first.scores] == [("sum", 1, 14.0), ("length", 2, 3.0)]
    assert first.tokens == 3
    error = response.results[1].error
    assert error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert error.message.startswith("texts[1]: has 7 tokens")
    assert response.timings.queue.ToMicroseconds() >= 30
    assert response.timings.compute.ToMicroseconds() == 2_000_000


async def test_pairs_are_classified(stub: Any) -> None:
    pair = pb.TextPair(first="one", second="two")
    response = await stub.Classify(pb.ClassifyRequest(model="sentiment", pairs=[pair]))
    assert response.results[0].classification.scores[0].score == 228.0


async def test_embed_answers_with_vectors(stub: Any) -> None:
    request = pb.EmbedRequest(model="embed", texts=["one", "two"], normalize=False)
    response = await stub.Embed(request)
    values = [list(result.embedding.vectors[0].values) for result in response.results]
    assert values == [[1.0, 14.0, 3.0], [1.0, 15.0, 3.0]]
    request.pooling = pb.POOLING_NONE
    response = await stub.Embed(request)
    assert [len(result.embedding.vectors) for result in response.results] == [3, 3]


async def test_models_are_listed_with_their_readiness(stub: Any, triton: FakeTriton, channel: grpc.aio.Channel) -> None:
    request = pb.ClassificationServiceListModelsRequest()
    models = (await stub.ListModels(request)).models
    assert [(model.name, model.task, model.ready) for model in models] == [
        ("embed", common_pb2.MODEL_TASK_EMBED, True),
        ("sentiment", common_pb2.MODEL_TASK_CLASSIFY, True),
    ]
    assert list(models[1].labels) == list(LABELS)
    triton.ready = False
    await wait_for_health(channel, SERVICE_NAME, NOT_SERVING)
    assert not any(model.ready for model in (await stub.ListModels(request)).models)


NOT_FOUND = (grpc.StatusCode.NOT_FOUND, "MODEL_NOT_FOUND", [])
WRONG_TASK = (grpc.StatusCode.FAILED_PRECONDITION, "WRONG_TASK", [])


def invalid(field: str) -> tuple[grpc.StatusCode, str, list[str]]:
    return grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", [field]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nobody", "texts": ["one"]}, NOT_FOUND),
        ({"model": "sentiment", "texts": ["one"]}, WRONG_TASK),
        ({"model": "embed"}, invalid("texts")),
        ({"model": "embed", "texts": ["one"], "dimensions": 9}, invalid("dimensions")),
        ({"model": "embed", "texts": ["one"], "pooling": 99}, invalid("pooling")),
        ({"model": "embed", "texts": ["one"] * 2_000}, invalid("texts")),
    ],
)
async def test_a_wrong_embed_is_refused_with_its_field(
    stub: Any, triton: FakeTriton, fields: dict[str, Any], expected: tuple[grpc.StatusCode, str, list[str]]
) -> None:
    assert await failure(stub.Embed(pb.EmbedRequest(**fields))) == expected
    assert triton.requests == []


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "chat", "texts": ["one"]}, WRONG_TASK),
        ({"model": "sentiment"}, invalid("texts")),
        ({"model": "sentiment", "texts": ["a"], "pairs": [pb.TextPair()]}, invalid("pairs")),
        ({"model": "sentiment", "texts": ["a"], "top_k": 0}, invalid("top_k")),
        ({"model": "sentiment", "texts": ["a"], "activation": 99}, invalid("activation")),
    ],
)
async def test_a_wrong_classify_is_refused_with_its_field(
    stub: Any, triton: FakeTriton, fields: dict[str, Any], expected: tuple[grpc.StatusCode, str, list[str]]
) -> None:
    assert await failure(stub.Classify(pb.ClassifyRequest(**fields))) == expected
    assert triton.requests == []


async def test_a_dead_triton_is_unavailable_at_once_and_comes_back(
    stub: Any, triton: FakeTriton, channel: grpc.aio.Channel
) -> None:
    request = pb.EmbedRequest(model="embed", texts=["one"])
    await triton.die()
    await wait_for_health(channel, SERVICE_NAME, NOT_SERVING)
    code, reason, _ = await failure(stub.Embed(request))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")
    await triton.start()
    await wait_for_health(channel, SERVICE_NAME, SERVING)
    assert len((await stub.Embed(request)).results) == 1


async def test_a_frozen_triton_fails_calls_in_flight(stub: Any, triton: FakeTriton) -> None:
    never = asyncio.Event()

    async def hang(request: Any) -> Any:
        await never.wait()

    triton.infer = hang
    triton.frozen.set()
    code, reason, _ = await failure(stub.Embed(pb.EmbedRequest(model="embed", texts=["one"])))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "ENGINE_UNAVAILABLE")


async def test_a_deadline_that_passes_ends_the_call_and_gives_its_room_back(stub: Any, triton: FakeTriton) -> None:
    release = asyncio.Event()

    async def hang(request: Any) -> Any:
        await release.wait()
        return answer(request)

    triton.infer = hang
    request = pb.EmbedRequest(model="embed", texts=["one"])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Embed(request, timeout=0.2)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    release.set()
    assert len((await stub.Embed(request)).results) == 1


async def test_texts_of_a_call_go_to_triton_in_one_packed_request(stub: Any, triton: FakeTriton) -> None:
    await stub.Classify(pb.ClassifyRequest(model="sentiment", texts=["one"] * 300 + ["two"]))
    (seen,) = triton.requests
    assert seen.model == "sentiment"
    assert seen.inputs["sequence_lengths"] == [3] * 301
    assert len(seen.inputs["input_ids"]) == len(seen.inputs["token_type_ids"]) == 903
    assert np.sum(seen.inputs["token_type_ids"]) == 0
