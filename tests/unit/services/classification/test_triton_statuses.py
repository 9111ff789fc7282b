"""Whatever status Triton answers, our client gets one that tells it the right thing to do."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.classification.app import SERVICE_NAME, build
from services.common.settings import ClassificationSettings
from tests.support.fake_triton import FakeTriton
from tests.support.rpc_failure import failure
from tests.support.running_service import running, wait_for_health
from tests.unit.services.classification.test_service import answer
from tests.unit.services.classification.tiny_encoders import write_repository

Code = grpc.StatusCode
INTERNAL = (Code.INTERNAL, "INTERNAL")
# Retries of a client must not run into an overload, so that only what is really out of reach is UNAVAILABLE.
EXPECTED: dict[tuple[grpc.StatusCode, str], tuple[grpc.StatusCode, str]] = {
    (Code.CANCELLED, "text"): (Code.UNAVAILABLE, "ENGINE_UNAVAILABLE"),
    (Code.UNKNOWN, "text"): INTERNAL,
    (Code.UNKNOWN, "[RESOURCE_EXHAUSTED] 256 requests are waiting already"): (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (Code.UNKNOWN, "[DEADLINE_EXCEEDED] the deadline has passed"): (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    (Code.INVALID_ARGUMENT, "text"): INTERNAL,
    (Code.INVALID_ARGUMENT, "[INVALID_ARGUMENT] too long"): (Code.INVALID_ARGUMENT, "INVALID_FIELD"),
    (Code.DEADLINE_EXCEEDED, "text"): (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    (Code.NOT_FOUND, "text"): (Code.UNAVAILABLE, "ENGINE_UNAVAILABLE"),
    (Code.ALREADY_EXISTS, "text"): INTERNAL,
    (Code.PERMISSION_DENIED, "text"): INTERNAL,
    (Code.RESOURCE_EXHAUSTED, "text"): (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (Code.FAILED_PRECONDITION, "text"): INTERNAL,
    (Code.ABORTED, "text"): INTERNAL,
    (Code.OUT_OF_RANGE, "text"): INTERNAL,
    (Code.UNIMPLEMENTED, "text"): INTERNAL,
    (Code.INTERNAL, "text"): INTERNAL,
    (Code.UNAVAILABLE, "text"): (Code.UNAVAILABLE, "ENGINE_UNAVAILABLE"),
    (Code.UNAVAILABLE, "Exceeds maximum queue size"): (Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (Code.UNAVAILABLE, "Request timeout expired"): (Code.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED"),
    (Code.DATA_LOSS, "text"): INTERNAL,
    (Code.UNAUTHENTICATED, "text"): INTERNAL,
}


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    fake.infer = answer
    await fake.start()
    yield fake
    await fake.die()


@pytest.fixture
async def stub(triton: FakeTriton, tmp_path: Path) -> AsyncIterator[Any]:
    settings = ClassificationSettings(
        model_repository=write_repository(tmp_path / "models"),
        triton_address=triton.address,
        triton_probe_interval_ms=20,
    )
    async with running(build(settings), settings) as (_, channel):
        await wait_for_health(channel, SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        yield classification_pb2_grpc.ClassificationServiceStub(channel)


def test_every_status_is_in_the_table() -> None:
    assert {code for code, _ in EXPECTED} | {Code.OK} == set(Code)


async def test_statuses_of_triton_become_ours(triton: FakeTriton, stub: Any) -> None:
    request = pb.ClassifyRequest(model="sentiment", texts=["one"])
    found = {}
    for code, text in EXPECTED:
        triton.refuse = lambda _, code=code, text=text: (code, text)  # type: ignore[misc]
        call = stub.Classify(request)
        status, reason, _ = await failure(call)
        found[code, text] = (status, reason)
        pushback = "grpc-retry-pushback-ms" in dict(await call.trailing_metadata())
        assert pushback is (status is Code.RESOURCE_EXHAUSTED), (code, text)
    assert found == EXPECTED
    triton.refuse = lambda _: None
    assert len((await stub.Classify(request)).results) == 1
