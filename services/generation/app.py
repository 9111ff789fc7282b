"""Puts the generation service together."""

from contextlib import AsyncExitStack

import grpc
from naiad.v1 import generation_pb2, generation_pb2_grpc

from services.common.admission import Admission
from services.common.canary import Canary
from services.common.canary_requests import ask_decoder
from services.common.door import Door
from services.common.health import HealthService
from services.common.metrics import AdmissionMetrics, FrontendMetrics, ServiceMetrics, TritonMetrics
from services.common.overload_settings import admission_options
from services.common.registry import ModelRegistry, Task
from services.common.server import ServiceApp
from services.common.settings import GenerationSettings
from services.common.text_models import TextModels
from services.common.triton_client import TritonChannel, TritonStream, unavailable
from services.common.triton_health import TritonHealth
from services.common.triton_tls import TritonTls
from services.generation.engine import LoadedModelsOnly
from services.generation.logic import GenerationLogic
from services.generation.safety.build import make_stage
from services.generation.servicer import GenerationServicer

SERVICE_NAME: str = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"].full_name


def build(settings: GenerationSettings) -> ServiceApp:
    """The service, ready to be run. Needs a running event loop."""
    metrics = ServiceMetrics()
    health = HealthService((SERVICE_NAME,))
    registry = ModelRegistry(settings.model_repository)
    models = TextModels(registry, settings, metrics)
    channel = TritonChannel(settings.triton_address, settings.retry_after_ms, TritonTls.of(settings))
    stream = TritonStream(channel, settings.max_buffered_responses, settings.max_buffered_bytes)
    canary = Canary(channel.answers, ask_decoder(stream), settings)
    triton_health = TritonHealth(channel, lambda: [entry.name for entry in registry.with_task(Task.GENERATE)], canary)
    triton_metrics = TritonMetrics(metrics.registry)
    admission = Admission(admission_options(settings))
    AdmissionMetrics(metrics.registry, admission)
    engine = LoadedModelsOnly(stream, triton_health.model_ready)
    safety = make_stage(settings, models, channel, metrics.registry)
    logic = GenerationLogic(models, engine, admission, FrontendMetrics(metrics.registry), safety)
    servicer = GenerationServicer(logic, triton_health.model_ready, settings.write_stall_timeout_ms)

    def on_probe(up: bool) -> None:
        triton_metrics.triton_up.set(up)
        health.set_serving(up and stream.is_open)
        health.set_models(
            SERVICE_NAME, {name: stream.is_open and ok for name, ok in triton_health.models_serving().items()}
        )
        if up:
            stream.retry_now()
        elif not triton_health.server_ready:  # else a model that has not answered yet could never be asked
            stream.release()

    def add_servicer(server: grpc.aio.Server) -> None:
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)

    async def start(resources: AsyncExitStack) -> None:
        resources.push_async_callback(channel.close)
        resources.push_async_callback(stream.close)
        resources.push_async_callback(triton_health.close)
        resources.push_async_callback(models.close)
        await models.load_all(Task.GENERATE)
        triton_health.on_probe(on_probe)
        triton_health.on_stall(lambda: stream.fail_all(unavailable()))
        stream.on_break(triton_health.mark_down)
        stream.start()
        triton_health.start(
            settings.triton_probe_interval_ms, settings.triton_probe_timeout_ms, settings.triton_stall_timeout_ms
        )

    door = Door(admission, registry.has)
    return ServiceApp(SERVICE_NAME, add_servicer, start, metrics, health, door=door)
