"""Health says within a second that Triton is gone; liveness says that the service is not."""

import re
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from services.common.health import LIVENESS, NOT_SERVING, SERVING, model_health_name
from tests.support.cluster import FAST_RECONNECT, ManagedService, ManagedTriton, started
from tests.support.stack import SERVICES
from tests.synthetic.make_decoder import DecoderSpec, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(120)]

MODELS = {"generation": "decoder", "classification": "classify"}


@dataclass
class Cluster:
    """One Triton and the two services that need it."""

    triton: ManagedTriton
    services: list[ManagedService]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    models = tmp_path / "models"
    make_decoder(models, "decoder", DecoderSpec(), {"intra_op_threads": "1"})
    make_encoder(models, "classify", EncoderSpec(task="classify"), {"intra_op_threads": "1"})
    triton = ManagedTriton("triton", models, tmp_path)
    settings = {"NAIAD_CANARY_INTERVAL_MS": "200"}
    services = [ManagedService(name, models, triton.address, tmp_path / f"{name}.log", settings) for name in MODELS]
    with started(triton, *services):
        yield Cluster(triton, services)


def refusal(generation: ManagedService) -> tuple[grpc.StatusCode, str | None]:
    """What a client is told, without a retry of its own."""
    with grpc.insecure_channel(generation.address, options=FAST_RECONNECT) as channel:
        request = generation_pb2.GenerateRequest(model=MODELS["generation"], token_ids={"ids": [1, 2]})
        with pytest.raises(grpc.RpcError) as refused:
            generation_pb2_grpc.GenerationServiceStub(channel).Generate(request, timeout=10)
    return refused.value.code(), refused.value.details()


def test_a_killed_triton_is_not_serving_within_a_second_and_the_services_live(cluster: Cluster) -> None:
    for service in cluster.services:
        model = model_health_name(SERVICES[service.service], MODELS[service.service])
        assert {service.check(name) for name in ("", SERVICES[service.service], model, LIVENESS)} == {SERVING}
    killed_s = time.monotonic()
    cluster.triton.send(signal.SIGKILL)
    for service in cluster.services:
        service.wait_for(lambda status: status == NOT_SERVING, timeout_s=10)
    assert time.monotonic() - killed_s < 1.0
    for service in cluster.services:
        model = model_health_name(SERVICES[service.service], MODELS[service.service])
        assert {service.check(name) for name in ("", model)} == {NOT_SERVING}
        assert service.check(LIVENESS) == SERVING
    assert refusal(cluster.services[0]) == (grpc.StatusCode.UNAVAILABLE, "the engine cannot be reached")
    cluster.triton.wait()
    cluster.triton.start()
    for service in cluster.services:
        service.wait_ready()


def test_idle_models_are_asked_by_their_canaries(cluster: Cluster) -> None:
    def answered() -> bool:
        counts = re.findall(r"^nv_inference_request_success{.*} (\S+)$", cluster.triton.metrics(), re.MULTILINE)
        return len(counts) == len(MODELS) and all(float(count) >= 3 for count in counts)

    deadline = time.monotonic() + 20
    while not answered():
        assert time.monotonic() < deadline, cluster.triton.metrics()
    for service in cluster.services:
        assert service.check("") == SERVING
