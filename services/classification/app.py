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
from services.common.triton_client import TritonChannel
from services.common.triton_health import TritonHealth
from services.common.triton_tls import TritonTls

SERVICE_NAME: str = classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"].full_name


def build(settings: ClassificationSettings) -> ServiceApp:
    """The service, ready to be run. To be called inside a running event loop."""
    metrics = ServiceMetrics()
    triton_metrics = TritonMetrics(metrics.registry)
    health = HealthService((SERVICE_NAME,))
    registry = ModelRegistry(settings.model_repository)
    models = TextModels(registry, settings, metrics)
    channel = TritonChannel(settings.triton_address, settings.retry_after_ms, TritonTls.of(settings))
    client = EncoderClient(channel, PackLimits(settings.max_pack_tokens, settings.max_parallel_packs))
    canary = Canary(channel.answers, ask_encoder(channel, registry), settings)
    triton_health = TritonHealth(channel, lambda: [entry.name for entry in registry.with_task(*TASKS)], canary)
    admission = Admission(admission_options(settings))
    AdmissionMetrics(metrics.registry, admission)
    batches = TextBatches(models, client, admission, settings.max_response_bytes)
    bulk_limits = BulkLimits(
        settings.max_stream_items, settings.max_stream_bytes, settings.max_pack_tokens, settings.max_parallel_packs
    )
    stopping = asyncio.Event()
    servicer = ClassificationServicer(
        batches, triton_health.model_ready, bulk_limits, stopping, settings.write_stall_timeout_ms
    )

    def add_servicer(server: grpc.aio.Server) -> None:
        classification_pb2_grpc.add_ClassificationServiceServicer_to_server(servicer, server)

    def note_probe(up: bool) -> None:
        triton_metrics.triton_up.set(up)
        health.set_serving(up)
        health.set_models(SERVICE_NAME, triton_health.models_serving())

    async def start(resources: AsyncExitStack) -> None:
        resources.push_async_callback(models.close)
        resources.push_async_callback(channel.close)
        resources.push_async_callback(triton_health.close)
        await models.load_all(*TASKS)
        triton_health.on_probe(note_probe)
        triton_health.on_stall(client.fail_in_flight)
        triton_health.start(
            settings.triton_probe_interval_ms, settings.triton_probe_timeout_ms, settings.triton_stall_timeout_ms
        )

    door = Door(admission, registry.has)
    return ServiceApp(SERVICE_NAME, add_servicer, start, metrics, health, stopping, door)
