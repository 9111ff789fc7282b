"""The service over gRPC, with tiny models behind a faked Triton."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2
from naiad.v1 import classification_pb2_grpc

from services.classification.app import SERVICE_NAME, build
from services.common.settings import ClassificationSettings
from tests.support.fake_triton import FakeTriton
from tests.support.running_service import running, wait_for_health
from tests.unit.services.classification.reading.models import answer, write_repository


# Started once a module: to end a server takes longer than most of these tests.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running_triton() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    fake.infer = answer
    await fake.start()
    yield fake
    await fake.die()


@pytest.fixture
def triton(running_triton: FakeTriton) -> FakeTriton:
    """The fake, which has seen no request yet."""
    running_triton.requests.clear()
    return running_triton


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(
    running_triton: FakeTriton, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[grpc.aio.Channel]:
    settings = ClassificationSettings(
        model_repository=write_repository(tmp_path_factory.mktemp("models")),
        triton_address=running_triton.address,
        triton_probe_interval_ms=20,
        triton_probe_timeout_ms=200,
        canary_interval_ms=0,  # tests count what the fake is asked
        max_response_bytes=2 * 1024 * 1024,
    )
    async with running(build(settings), settings) as (_, opened):
        await wait_for_health(opened, SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return classification_pb2_grpc.ClassificationServiceStub(channel)
