"""Every RPC of every naiad service, asked with and without a token: who gets in where, in one table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from naiad.v1 import classification_pb2, generation_pb2, tokenization_pb2

from services.common.tenant_file import digest_of
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.component

TOKENS = {tenant: f"naiad_{tenant}-token" for tenant in ("everything", "generation", "expired")}
SERVICES: dict[str, ServiceDescriptor] = {
    "tokenization": tokenization_pb2.DESCRIPTOR.services_by_name["TokenizationService"],
    "generation": generation_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    "classification": classification_pb2.DESCRIPTOR.services_by_name["ClassificationService"],
}
HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"]
REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
CALLERS = ("nobody", "stranger", "expired", "generation", "everything")


@pytest.fixture(scope="module")
def guarded(synthetic_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole stack, asking for tokens."""
    folder = tmp_path_factory.mktemp("guarded")
    tenants: dict[str, Any] = {
        tenant: {"tokens": [{"sha256": digest_of(token).hex()}]} for tenant, token in TOKENS.items()
    }
    tenants["generation"]["services"] = ["generation"]
    tenants["expired"]["tokens"][0]["expires"] = "2020-01-01T00:00:00Z"
    file = folder / "tenants.json"
    file.write_text(json.dumps({"tenants": tenants}))
    with running_stack(synthetic_repository, folder, NAIAD_TENANTS_FILE=str(file)) as stack:
        yield stack


def expected(caller: str, service: str, descriptor: ServiceDescriptor) -> set[grpc.StatusCode]:
    """Refusals that the policy has for a caller; empty when the call goes through, however it ends then."""
    if descriptor is HEALTH or caller == "everything":
        return set()
    if caller != "generation":
        return {grpc.StatusCode.UNAUTHENTICATED}
    # What the process may tell about itself it tells every tenant.
    return set() if service == "generation" or descriptor is REFLECTION else {grpc.StatusCode.PERMISSION_DENIED}


def code_of(stack: Stack, service: str, path: str, caller: str) -> grpc.StatusCode:
    """How a call with an empty message ends; OK as well when it begins to answer."""
    metadata = [] if caller == "nobody" else [("authorization", f"Bearer {TOKENS.get(caller, 'naiad_unknown')}")]
    call: Any = stack.channel(service).stream_stream(path)(iter([b""]), timeout=20, metadata=metadata)
    try:
        next(call, None)
    except grpc.RpcError:
        code: grpc.StatusCode = call.code()
        return code
    call.cancel()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("caller", CALLERS)
def test_who_may_call_what(guarded: Stack, service: str, caller: str) -> None:
    outcomes = {}
    policy = {}
    for descriptor in (SERVICES[service], HEALTH, REFLECTION):
        for method in descriptor.methods:
            path = f"/{descriptor.full_name}/{method.name}"
            outcomes[path] = {code_of(guarded, service, path, caller)} & REFUSED
            policy[path] = expected(caller, service, descriptor)
    assert outcomes == policy


def test_the_command_line_calls_with_a_token(guarded: Stack, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKENS["everything"] + "\n")
    result = guarded.run_cli("models", "--token-file", str(file))
    assert (result.returncode, result.stderr) == (0, "")
    assert "decoder" in result.stdout
    refused = guarded.run_cli("models")
    assert refused.returncode == 1
    assert "UNAUTHENTICATED: authorization: a bearer token is missing" in refused.stderr
