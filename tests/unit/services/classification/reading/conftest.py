"""The service over gRPC, with tiny models behind a faked Triton."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import classification_pb2_grpc

from services.classification.app import SERVICE_NAME, build
from services.common.settings import ClassificationSettings
from tests.support.fake_triton import FakeTriton
from tests.support.running_service import running, wait_for_health
from tests.unit.services.classification.reading.models import answer, write_repository


@pytest.fixture
async def triton() -> AsyncIterator[FakeTriton]:
    fake = FakeTriton()
    fake.infer = answer
    await fake.start()
    yield fake
    await fake.die()


@pytest.fixture
async def channel(triton: FakeTriton, tmp_path: Path) -> AsyncIterator[grpc.aio.Channel]:
    settings = ClassificationSettings(
        model_repository=write_repository(tmp_path / "models"),
        triton_address=triton.address,
        triton_probe_interval_ms=20,
        triton_probe_timeout_ms=200,
        max_response_bytes=2 * 1024 * 1024,
    )
    async with running(build(settings), settings) as (_, opened):
        await wait_for_health(opened, SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return classification_pb2_grpc.ClassificationServiceStub(channel)
