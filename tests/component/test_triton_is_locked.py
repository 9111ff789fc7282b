"""Every RPC that Triton has, asked as whoever reaches its port could: only those that the services need answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.grpc import service_pb2

from services.supervisor.triton_command import LOCK_HEADER
from tests.support.triton import TritonServer

pytestmark = pytest.mark.component

# What the services need, and nothing else. An RPC that a new Triton brings is in neither, and fails the test.
OPEN = {"ServerLive", "ServerReady", "ModelReady", "ModelInfer", "ModelStreamInfer"}
LOCKED = {
    "ServerMetadata",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
    "RepositoryModelUnload",
    "SystemSharedMemoryStatus",
    "SystemSharedMemoryRegister",
    "SystemSharedMemoryUnregister",
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
    "LogSettings",
}
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


@pytest.fixture(scope="module")
def channel(triton: TritonServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(triton.grpc_address) as opened:
        yield opened


def answer(channel: grpc.Channel, method: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
    """How a call with an empty request ends: its first message, or its error."""
    path = f"/{SERVICE.full_name}/{method}"
    call: Any = channel.stream_stream(path)(iter([b""]), timeout=20, metadata=metadata)
    try:
        next(call, None)
        code, details = call.code(), call.details()
    except grpc.RpcError:
        code, details = call.code(), call.details()
    return code, details or ""


def is_locked(outcome: tuple[grpc.StatusCode, str]) -> bool:
    return outcome[0] is grpc.StatusCode.UNAVAILABLE and "restricted" in outcome[1]


def test_the_table_has_every_rpc() -> None:
    assert {method.name for method in SERVICE.methods} == OPEN | LOCKED
    assert not OPEN & LOCKED


@pytest.mark.parametrize("method", sorted(LOCKED))
def test_what_the_services_do_not_need_is_locked(channel: grpc.Channel, method: str) -> None:
    header = f"triton-grpc-protocol-{LOCK_HEADER}"
    for metadata in ((), ((header, ""),), ((header, "naiad"),), ((LOCK_HEADER, "naiad"),)):
        outcome = answer(channel, method, *metadata)
        assert is_locked(outcome), (method, metadata, outcome)


@pytest.mark.parametrize("method", sorted(OPEN))
def test_what_the_services_need_answers(channel: grpc.Channel, method: str) -> None:
    assert not is_locked(answer(channel, method))


def test_the_key_is_the_only_one_and_stands_in_no_log(channel: grpc.Channel, triton: TritonServer) -> None:
    lock = triton.options.lock
    header = f"triton-grpc-protocol-{LOCK_HEADER}"
    assert answer(channel, "ServerMetadata", (header, lock))[0] is grpc.StatusCode.OK
    assert is_locked(answer(channel, "ServerMetadata", (header, lock[:-1])))
    assert lock not in triton.log()
    assert lock not in repr(triton.options)


def test_health_for_probes_answers(channel: grpc.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answered = stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    assert answered.status == health_pb2.HealthCheckResponse.SERVING
