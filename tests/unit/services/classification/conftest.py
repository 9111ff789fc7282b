"""The service's logic over tiny encoders."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from services.classification.classify_logic import ClassifyLogic
from services.classification.embed_logic import EmbedLogic
from services.classification.encoder_client import EncoderClient
from services.classification.pack_queue import PackLimits
from services.classification.text_batches import TextBatches
from services.common.admission import Admission, AdmissionOptions
from services.common.metrics import ServiceMetrics
from services.common.registry import ModelRegistry
from services.common.settings import ClassificationSettings
from services.common.text_models import TextModels
from tests.unit.services.classification.tiny_encoders import FakeChannel, write_repository


@pytest.fixture
def channel() -> FakeChannel:
    return FakeChannel()


@pytest.fixture
async def text_models(tmp_path: Path) -> AsyncIterator[TextModels]:
    registry = ModelRegistry(write_repository(tmp_path / "models"))
    models = TextModels(registry, ClassificationSettings(), ServiceMetrics())
    yield models
    await models.close()


class Logic:
    """What the service does, each RPC as a function."""

    def __init__(self, batches: TextBatches, client: EncoderClient) -> None:
        self.client = client
        self.classify = ClassifyLogic(batches).classify
        self.embed = EmbedLogic(batches).embed


MakeLogic = Callable[..., Logic]


@pytest.fixture
def make_logic(channel: FakeChannel, text_models: TextModels) -> MakeLogic:
    """Makes the logic; bounds: max_pack_tokens, max_parallel_packs, max_requests, max_tokens, max_bytes."""

    def make(**bounds: int) -> Logic:
        limits = PackLimits(bounds.get("max_pack_tokens", 64), bounds.get("max_parallel_packs", 2))
        options = AdmissionOptions(bounds.get("max_requests", 8), bounds.get("max_tokens", 1000), 250, 10_000)
        admission = Admission(options)
        client = EncoderClient(channel, limits)
        return Logic(TextBatches(text_models, client, admission, bounds.get("max_bytes", 1_000_000)), client)

    return make


@pytest.fixture
def logic(make_logic: MakeLogic) -> Logic:
    return make_logic()
