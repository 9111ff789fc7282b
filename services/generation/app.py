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
from services.common.triton_inference import PooledInference
from services.common.triton_member import StreamBuffers, TritonMember
from services.common.triton_pool import TritonPool
from services.generation.failover import FailoverEngine
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

    def make_canary(member: TritonMember) -> Canary:
        return Canary(member.channel.answers, ask_decoder(member.opened_stream), settings)

    pool = TritonPool(
        settings,
        lambda: [entry.name for entry in registry.with_task(Task.GENERATE)],
        TritonMetrics(metrics.registry),
        StreamBuffers(settings.max_buffered_responses, settings.max_buffered_bytes),
        make_canary,
    )
    admission = Admission(admission_options(settings))
    AdmissionMetrics(metrics.registry, admission)
    engine = FailoverEngine(pool, settings.triton_max_failovers)
    inference = PooledInference(pool, settings.triton_max_failovers)
    safety = make_stage(settings, models, inference, metrics.registry)
    logic = GenerationLogic(models, engine, admission, FrontendMetrics(metrics.registry), safety)
    servicer = GenerationServicer(logic, pool.model_ready, settings.write_stall_timeout_ms)

    def on_change(up: bool) -> None:
        health.set_serving(up)
        health.set_models(SERVICE_NAME, pool.models_serving())

    def add_servicer(server: grpc.aio.Server) -> None:
        generation_pb2_grpc.add_GenerationServiceServicer_to_server(servicer, server)

    async def start(resources: AsyncExitStack) -> None:
        resources.push_async_callback(pool.close)
        resources.push_async_callback(models.close)
        await models.load_all(Task.GENERATE)
        pool.on_change(on_change)
        await pool.start()

    door = Door(admission, registry.has)
    return ServiceApp(SERVICE_NAME, add_servicer, start, metrics, health, door=door)
