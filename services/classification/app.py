"""Puts the classification service together."""

import asyncio
from contextlib import AsyncExitStack

import grpc
from naiad.v1 import classification_pb2, classification_pb2_grpc

from services.classification.bulk import BulkLimits
from services.classification.encoder_client import EncoderClient
from services.classification.pack_queue import PackLimits
from services.classification.servicer import TASKS, ClassificationServicer
from services.classification.text_batches import TextBatches
from services.common.admission import Admission
from services.common.canary import Canary
from services.common.canary_requests import ask_encoder
from services.common.door import Door
from services.common.health import HealthService
from services.common.metrics import AdmissionMetrics, ServiceMetrics, TritonMetrics
from services.common.overload_settings import admission_options
from services.common.registry import ModelRegistry
from services.common.server import ServiceApp
from services.common.settings import ClassificationSettings
from services.common.text_models import TextModels
from services.common.triton_inference import PooledInference
from services.common.triton_member import TritonMember
from services.common.triton_pool import TritonPool

SERVICE_NAME: str = classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"].full_name


def build(settings: ClassificationSettings) -> ServiceApp:
    """The service, ready to be run. To be called inside a running event loop."""
    metrics = ServiceMetrics()
    health = HealthService((SERVICE_NAME,))
    registry = ModelRegistry(settings.model_repository)
    models = TextModels(registry, settings, metrics)

    def make_canary(member: TritonMember) -> Canary:
        return Canary(member.channel.answers, ask_encoder(member.channel, registry), settings)

    pool = TritonPool(
        settings,
        lambda: [entry.name for entry in registry.with_task(*TASKS)],
        TritonMetrics(metrics.registry),
        make_canary=make_canary,
    )
    inference = PooledInference(pool, settings.triton_max_failovers)
    client = EncoderClient(inference, PackLimits(settings.max_pack_tokens, settings.max_parallel_packs))
    admission = Admission(admission_options(settings))
    AdmissionMetrics(metrics.registry, admission)
    batches = TextBatches(models, client, admission, settings.max_response_bytes)
    bulk_limits = BulkLimits(
        settings.max_stream_items, settings.max_stream_bytes, settings.max_pack_tokens, settings.max_parallel_packs
    )
    stopping = asyncio.Event()
    servicer = ClassificationServicer(batches, pool.model_ready, bulk_limits, stopping, settings.write_stall_timeout_ms)

    def add_servicer(server: grpc.aio.Server) -> None:
        classification_pb2_grpc.add_ClassificationServiceServicer_to_server(servicer, server)

    def on_change(up: bool) -> None:
        health.set_serving(up)
        health.set_models(SERVICE_NAME, pool.models_serving())

    async def start(resources: AsyncExitStack) -> None:
        resources.push_async_callback(models.close)
        resources.push_async_callback(pool.close)
        await models.load_all(*TASKS)
        pool.on_change(on_change)
        pool.on_stall(client.fail_in_flight)
        await pool.start()

    door = Door(admission, registry.has)
    return ServiceApp(SERVICE_NAME, add_servicer, start, metrics, health, stopping, door)
