"""The whole stack with mutual TLS on every gRPC connection, callers to services and services to Triton."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tests.support.certificates import Authority, Pair
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.component


@dataclass(frozen=True)
class Secured:
    """The stack, and the files that its callers need."""

    stack: Stack
    authority: Authority
    client: Pair
    folder: Path


@pytest.fixture(scope="module")
def secured(synthetic_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority = Authority()
    ca = folder / "ca.crt"
    ca.write_bytes(authority.certificate)
    paths = {}
    client = authority.sign("client")
    for name, pair in (("server", authority.sign("localhost")), ("client", client)):
        paths[name] = [str(path) for path in pair.write(folder, name)]
    server, caller = paths["server"], paths["client"]
    settings = {
        "NAIAD_TLS_CERTIFICATE": server[0],
        "NAIAD_TLS_PRIVATE_KEY": server[1],
        "NAIAD_TLS_CLIENT_CA": str(ca),
        "NAIAD_CLIENT_TLS_CA": str(ca),
        "NAIAD_CLIENT_TLS_CERTIFICATE": caller[0],
        "NAIAD_CLIENT_TLS_PRIVATE_KEY": caller[1],
        "NAIAD_TRITON_SERVER_CERTIFICATE": server[0],
        "NAIAD_TRITON_SERVER_PRIVATE_KEY": server[1],
        "NAIAD_TRITON_CLIENT_CA": str(ca),
        "NAIAD_TRITON_TLS_CA": str(ca),
        "NAIAD_TRITON_TLS_CERTIFICATE": caller[0],
        "NAIAD_TRITON_TLS_PRIVATE_KEY": caller[1],
    }
    credentials = authority.credentials(client)
    with running_stack(synthetic_repository, folder, credentials=credentials, **settings) as stack:
        yield Secured(stack, authority, client, folder)


def test_commands_reach_the_services_and_the_services_triton(secured: Secured) -> None:
    listed = secured.stack.run_cli("models", "--json")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert '"ready": true' in listed.stdout


def test_without_a_certificate_nobody_gets_to_the_services(secured: Secured) -> None:
    secured.stack.environment.pop("NAIAD_CLIENT_TLS_CERTIFICATE")
    secured.stack.environment.pop("NAIAD_CLIENT_TLS_PRIVATE_KEY")
    assert secured.stack.run_cli("models", "--timeout", "10").returncode == 69


@pytest.mark.parametrize("kind", ["plaintext", "no certificate", "another authority's"])
def test_without_a_certificate_nobody_gets_to_triton(secured: Secured, kind: str) -> None:
    address = secured.stack.address("triton")
    credentials = {
        "plaintext": None,
        "no certificate": secured.authority.credentials(),
        "another authority's": secured.authority.credentials(Authority().sign("client")),
    }[kind]
    channel = grpc.insecure_channel(address) if credentials is None else grpc.secure_channel(address, credentials)
    with channel, pytest.raises(grpc.RpcError) as caught:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=10)
    code: Any = caught.value
    assert code.code() is grpc.StatusCode.UNAVAILABLE


def test_the_certificate_of_the_services_reaches_triton(secured: Secured) -> None:
    """Else the tests above would prove nothing."""
    credentials = secured.authority.credentials(secured.client)
    with grpc.secure_channel(secured.stack.address("triton"), credentials) as channel:
        stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        assert stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=10).ready


def test_metrics_stay_plain_unless_asked_for(secured: Secured) -> None:
    url = f"http://127.0.0.1:{secured.stack.metrics_ports['generation']}/metrics"
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert b"naiad_tls_certificate_expiry_seconds" in answer.read()
