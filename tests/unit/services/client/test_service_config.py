"""The published service config fits the protocol."""

import json

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from naiad.v1 import classification_pb2, generation_pb2, tokenization_pb2

from services.client import service_config_json
from services.client.options import Options, channel_arguments, target_uri

CONFIG = json.loads(service_config_json())
SERVICES: list[ServiceDescriptor] = [
    service
    for file in (tokenization_pb2, generation_pb2, classification_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
]


def test_exactly_the_unary_methods_are_retried() -> None:
    unary = {
        (service.full_name, method.name)
        for service in SERVICES
        for method in service.methods
        if not method.client_streaming and not method.server_streaming
    }
    listed = [(name["service"], name["method"]) for entry in CONFIG["methodConfig"] for name in entry["name"]]
    assert len(listed) == len(set(listed))
    assert set(listed) == unary


def test_retries_are_few_and_for_unavailable_only() -> None:
    for entry in CONFIG["methodConfig"]:
        assert entry["retryPolicy"]["maxAttempts"] == 3
        assert entry["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]
    assert CONFIG["retryThrottling"] == {"maxTokens": 10, "tokenRatio": 0.1}


def test_health_checks_can_be_turned_off() -> None:
    def config(options: Options) -> dict:
        return json.loads(str(dict(channel_arguments(options))["grpc.service_config"]))

    assert config(Options()) == CONFIG
    assert "healthCheckConfig" not in config(Options(health_checks=False))


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("host:1", "host:1"),
        ("dns:///host:1", "dns:///host:1"),
        (["host:1"], "host:1"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_targets(target: str | list[str], uri: str) -> None:
    assert target_uri(target) == uri


@pytest.mark.parametrize("target", [[], ["a:1", "b:2"], ["10.0.0.1:1", "[::1]:1"], ["10.0.0.1", "10.0.0.2"]])
def test_wrong_targets(target: list[str]) -> None:
    with pytest.raises(ValueError, match=r"address|IP:PORT"):
        target_uri(target)
