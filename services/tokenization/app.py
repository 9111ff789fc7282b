"""Puts the tokenization service together."""

import asyncio
from contextlib import AsyncExitStack

import grpc
from naiad.v1 import tokenization_pb2, tokenization_pb2_grpc

from services.common.admission import Admission
from services.common.door import Door
from services.common.health import HealthService
from services.common.metrics import AdmissionMetrics, ServiceMetrics
from services.common.overload_settings import admission_options
from services.common.registry import RESCAN_INTERVAL_S, ModelRegistry
from services.common.server import ServiceApp
from services.common.settings import TokenizationSettings
from services.common.text_models import TextModels
from services.tokenization.logic import TokenizationLogic
from services.tokenization.servicer import TokenizationServicer

SERVICE_NAME: str = tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"].full_name


def build(settings: TokenizationSettings) -> ServiceApp:
    """The service, ready to be run."""
    metrics = ServiceMetrics()
    health = HealthService((SERVICE_NAME,))
    registry = ModelRegistry(settings.model_repository)
    models = TextModels(registry, settings, metrics)
    admission = Admission(admission_options(settings))
    AdmissionMetrics(metrics.registry, admission)
    models.on_wait(admission.observe_wait)
    servicer = TokenizationServicer(TokenizationLogic(models))

    def add_servicer(server: grpc.aio.Server) -> None:
        tokenization_pb2_grpc.add_TokenizationServiceServicer_to_server(servicer, server)

    async def start(resources: AsyncExitStack) -> None:
        resources.push_async_callback(models.close)
        await models.load_all()
        health.set_serving(True)
        following = asyncio.create_task(follow_models())
        resources.callback(following.cancel)

    async def follow_models() -> None:
        while True:
            health.set_models(SERVICE_NAME, {model.entry.name: True for model in models.loaded()})
            await asyncio.sleep(RESCAN_INTERVAL_S)

    door = Door(admission, registry.has)
    return ServiceApp(SERVICE_NAME, add_servicer, start, metrics, health, door=door)
