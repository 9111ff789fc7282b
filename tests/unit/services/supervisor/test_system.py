"""The plan of the whole system, as settings describe it."""

from pathlib import Path

import pytest

from services.common.setting import SettingsError
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.system import System, plan

ALL = ("tokenization", "generation", "classification")


def test_children_get_their_settings_through_the_environment(tmp_path: Path) -> None:
    environ = {"NAIAD_TRITON_GRPC_PORT": "7001", "NAIAD_GENERATION_PORT": "7002", "OTHER": "kept"}
    system = plan(environ, tmp_path, ALL)
    members = {member.spec.name: member.spec for stage in system.stages(Reporter()) for member in stage}
    assert list(members) == ["triton", *ALL]
    environment = members["generation"].environment
    assert environment["NAIAD_TRITON_ADDRESS"] == "127.0.0.1:7001"
    assert environment["NAIAD_GENERATION_PORT"] == "7002"
    assert environment["NAIAD_MODEL_REPOSITORY"] == str(tmp_path)
    assert environment["OTHER"] == "kept"
    assert "--grpc-port=7001" in members["triton"].command
    assert members["generation"].command[-1] == "services.generation"


def test_a_port_of_0_is_picked_here_so_that_a_restarted_child_keeps_it() -> None:
    system = plan({"NAIAD_TRITON_GRPC_PORT": "0", "NAIAD_GENERATION_PORT": "0"}, None, ALL)
    generation = system.services[1]
    assert generation.port > 0
    (triton,) = system.tritons
    assert triton.port > 0
    assert system.environment["NAIAD_GENERATION_PORT"] == str(generation.port)
    assert system.environment["NAIAD_TRITON_ADDRESS"] == f"127.0.0.1:{triton.port}"


def test_who_listens_on_all_addresses_is_called_on_the_loopback() -> None:
    system = plan({"NAIAD_HOST": "0.0.0.0"}, None, ALL)
    assert system.services[0].address == "127.0.0.1:50051"
    assert system.services[0].metrics_url == "http://127.0.0.1:9101/metrics"
    # Triton has a setting of its own: it must not be opened to the network by the way.
    assert [triton.host for triton in system.tritons] == ["127.0.0.1"]


def test_several_tritons_serve_the_same_models_on_ports_of_their_own(tmp_path: Path) -> None:
    system = plan({"NAIAD_TRITON_REPLICAS": "3", "NAIAD_TRITON_GRPC_PORT": "7001"}, tmp_path, ALL)
    tritons, services = system.stages(Reporter())
    assert [member.spec.name for member in tritons] == ["triton", "triton-2", "triton-3"]
    assert len({member.spec.log_path for member in tritons}) == 3
    ports = [triton.port for triton in system.tritons]
    assert ports[0] == 7001
    assert len(set(ports)) == 3
    for port, member in zip(ports, tritons, strict=True):
        assert f"--grpc-port={port}" in member.spec.command
        assert f"--model-repository={tmp_path}" in member.spec.command
    addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
    assert services[0].spec.environment["NAIAD_TRITON_ADDRESS"] == addresses


def test_a_service_has_its_grace_before_it_is_killed() -> None:
    system = plan({"NAIAD_DRAIN_GRACE_MS": "30000"}, None, ("generation",))
    (generation,) = system.stages(Reporter())[1]
    assert generation.spec.stop_timeout_s > 30


def test_unknown_settings_are_refused() -> None:
    with pytest.raises(SettingsError, match="NAIAD_GENERATION_PROT"):
        plan({"NAIAD_GENERATION_PROT": "1"}, None, ALL)


def test_logs_of_an_earlier_start_are_emptied(tmp_path: Path) -> None:
    system = _system_with_logs_in(tmp_path / "logs")
    system.begin_logs()
    log = tmp_path / "logs" / "generation.log"
    log.write_text("old")
    system.begin_logs()
    assert log.read_text() == ""


def test_a_log_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"logs cannot be written to .*: .*NAIAD_LOG_DIRECTORY"):
        _system_with_logs_in(tmp_path / "file" / "logs").begin_logs()


def _system_with_logs_in(folder: Path) -> System:
    return plan({"NAIAD_LOG_DIRECTORY": str(folder)}, None, ALL)


def test_services_with_tls_are_asked_for_their_health_on_ports_without(tmp_path: Path) -> None:
    paths = {"NAIAD_TLS_CERTIFICATE": "c", "NAIAD_TLS_PRIVATE_KEY": "k", "NAIAD_METRICS_TLS": "true"}
    system = plan({**paths, "NAIAD_HEALTH_PORT": "1"}, tmp_path, ALL)
    members = {member.spec.name: member.spec for member in system.stages(Reporter())[1]}
    ports = {service.name: service.health_port for service in system.services}
    assert len(set(ports.values())) == len(ALL)
    for service in system.services:
        assert service.health_port not in (0, 1, service.port)
        assert service.health_address == f"127.0.0.1:{service.health_port}"
        assert members[service.name].environment["NAIAD_HEALTH_PORT"] == str(service.health_port)
        assert service.metrics_url.startswith("https://")
    assert {service.health_address for service in plan({}, tmp_path, ALL).services} == {
        "127.0.0.1:50051",
        "127.0.0.1:50052",
        "127.0.0.1:50053",
    }


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"NAIAD_TRITON_SERVER_CERTIFICATE": "x"}, "go together"),
        ({"NAIAD_TRITON_CLIENT_CA": "x"}, "needs NAIAD_TRITON_SERVER_CERTIFICATE"),
        ({"NAIAD_TRITON_TLS_CERTIFICATE": "x"}, "needs NAIAD_TRITON_TLS_CA"),
        ({"NAIAD_TRITON_TLS_CA": "x", "NAIAD_TRITON_TLS_PRIVATE_KEY": "x"}, "go together"),
        ({"NAIAD_TRITON_TLS_CA": "/nowhere/ca.crt"}, "/nowhere/ca.crt cannot be read: No such file"),
    ],
)
def test_half_of_the_settings_for_tls_to_triton_is_refused(
    tmp_path: Path, environ: dict[str, str], complaint: str
) -> None:
    with pytest.raises(SettingsError, match=complaint):
        plan(environ, tmp_path, ALL)


def test_triton_is_told_what_to_show_and_whom_to_ask(tmp_path: Path) -> None:
    pair = {"NAIAD_TRITON_SERVER_CERTIFICATE": "/c", "NAIAD_TRITON_SERVER_PRIVATE_KEY": "/k"}
    flags = plan(pair, tmp_path, ALL).triton_options.command()
    assert {"--grpc-use-ssl=true", "--grpc-server-cert=/c", "--grpc-server-key=/k"} <= set(flags)
    flags = plan({**pair, "NAIAD_TRITON_CLIENT_CA": "/ca"}, tmp_path, ALL).triton_options.command()
    assert {"--grpc-use-ssl-mutual=true", "--grpc-root-cert=/ca"} <= set(flags)
    assert not any("ssl" in flag for flag in plan({}, tmp_path, ALL).triton_options.command())
