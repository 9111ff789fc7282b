"""Every kustomization renders, is valid Kubernetes, and keeps the project's own rules for pods."""

import importlib.util
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from services.common.health import LIVENESS, SERVING, HealthService
from services.common.lifecycle import CLEANUP_TIMEOUT_S
from services.common.settings import (
    ClassificationSettings,
    GenerationSettings,
    TokenizationSettings,
    load_settings,
)

K8S = Path(__file__).resolve().parents[3] / "k8s"
KUBERNETES_VERSION = "1.34"  # preStop's `sleep` is stable from here on
KUSTOMIZATIONS = ["base", "overlays/single-node", "overlays/production", "overlays/access"]
# Kinds of the Prometheus operator: their schemas are not in kubernetes-validate.
OPERATOR_KINDS = {"PodMonitor", "PrometheusRule"}
SETTINGS: dict[str, type[TokenizationSettings] | type[GenerationSettings] | type[ClassificationSettings]] = {
    "naiad-tokenization": TokenizationSettings,
    "naiad-generation": GenerationSettings,
    "naiad-classification": ClassificationSettings,
}
TRITON_PORTS = {"grpc": 8001, "metrics": 8002}  # docs/contracts.md, section 5

Manifest = dict[str, Any]
Render = Callable[[str], list[Manifest]]

each_kustomization = pytest.mark.parametrize("folder", KUSTOMIZATIONS)


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    return {name: deployment["spec"]["template"] for name, deployment in of_kind(manifests, "Deployment").items()}


def containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    found = {}
    for name, pod in pods(manifests).items():
        (found[name],) = pod["spec"]["containers"]
    return found


def all_containers(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Those that run, and those that run before them, named POD/CONTAINER."""
    before = {
        f"{name}/{container['name']}": container
        for name, pod in pods(manifests).items()
        for container in pod["spec"].get("initContainers", [])
    }
    return containers(manifests) | before


def settings_of(manifests: list[Manifest]) -> dict[str, str]:
    (settings,) = (
        data["data"] for name, data in of_kind(manifests, "ConfigMap").items() if name.startswith("naiad-settings")
    )
    return dict(settings)


def test_every_kustomization_is_in_these_tests() -> None:
    kustomizations = [yaml.safe_load(path.read_text()) for path in K8S.rglob("kustomization.yaml")]
    assert sum(k["kind"] == "Kustomization" for k in kustomizations) == len(KUSTOMIZATIONS)
    components = {path.parent for path in K8S.rglob("kustomization.yaml") if "kind: Component" in path.read_text()}
    used = {
        (K8S / folder / component).resolve()
        for folder in KUSTOMIZATIONS
        for component in yaml.safe_load((K8S / folder / "kustomization.yaml").read_text()).get("components", [])
    }
    assert used == components


@each_kustomization
def test_native_kinds_pass_strict_validation(render: Render, folder: str) -> None:
    native = [manifest for manifest in render(folder) if manifest["kind"] not in OPERATOR_KINDS]
    assert len(native) > 15
    for manifest in native:
        kubernetes_validate.validate(manifest, KUBERNETES_VERSION, strict=True)


def test_validation_refuses_a_field_that_does_not_exist(render: Render) -> None:
    deployment = next(iter(of_kind(render("base"), "Deployment").values()))
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES_VERSION, strict=True)


@each_kustomization
def test_each_part_has_all_of_its_objects(render: Render, folder: str) -> None:
    manifests = render(folder)
    parts = {*SETTINGS, "naiad-triton"}
    for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
        assert set(of_kind(manifests, kind)) == parts, kind
    for name in parts:
        labels = pods(manifests)[name]["metadata"]["labels"]
        assert labels["app.kubernetes.io/part-of"] == "naiad"
        for kind in ("Service", "Deployment", "PodDisruptionBudget"):
            selector = of_kind(manifests, kind)[name]["spec"]["selector"]
            assert selector.get("matchLabels", selector) == {"app.kubernetes.io/name": labels["app.kubernetes.io/name"]}


@each_kustomization
def test_pods_keep_the_restricted_pod_security_standard(render: Render, folder: str) -> None:
    manifests = render(folder)
    namespace = of_kind(manifests, "Namespace")["naiad"]
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for name, pod in pods(manifests).items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] > 0, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys(), name
        allowed_volumes = {"name", "persistentVolumeClaim", "emptyDir", "secret"}
        assert all(volume.keys() <= allowed_volumes for volume in pod["spec"]["volumes"]), name
    for name, container in all_containers(manifests).items():
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert context["readOnlyRootFilesystem"] is True, name


@each_kustomization
def test_no_pod_gets_a_token_or_the_clusters_variables(render: Render, folder: str) -> None:
    manifests = render(folder)
    for name, pod in pods(manifests).items():
        assert pod["spec"]["automountServiceAccountToken"] is False, name
        assert pod["spec"]["serviceAccountName"] == name
        # A Service called naiad-x would otherwise become the variable NAIAD_X_PORT.
        assert pod["spec"]["enableServiceLinks"] is False, name
    for name, account in of_kind(manifests, "ServiceAccount").items():
        assert account["automountServiceAccountToken"] is False, name


@each_kustomization
def test_models_are_mounted_read_only(render: Render, folder: str) -> None:
    manifests = render(folder)
    for name, container in all_containers(manifests).items():
        (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "models")
        assert mount["readOnly"] is True, name
        assert mount["mountPath"] == settings_of(manifests)["NAIAD_MODEL_REPOSITORY"], name
        # The root of a volume may hold lost+found, which Triton would take for a model.
        assert mount["subPath"], name


@each_kustomization
def test_models_are_checked_before_triton_opens_them(render: Render, folder: str) -> None:
    manifests = render(folder)
    (check,) = pods(manifests)["naiad-triton"]["spec"]["initContainers"]
    assert check["image"] == containers(manifests)["naiad-generation"]["image"]
    assert check["args"] == ["naiad", "verify"]
    assert check["envFrom"] == containers(manifests)["naiad-generation"]["envFrom"]


@each_kustomization
def test_containers_have_memory_limits_and_requests(render: Render, folder: str) -> None:
    for name, container in all_containers(render(folder)).items():
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), name
        assert "memory" in container["resources"]["limits"], name


@each_kustomization
def test_the_grace_period_holds_the_pre_stop_sleep_and_the_drain(render: Render, folder: str) -> None:
    manifests = render(folder)
    settings = load_settings(GenerationSettings, settings_of(manifests))
    drain_s = (settings.drain_notice_ms + settings.drain_grace_ms) / 1000 + CLEANUP_TIMEOUT_S
    found = containers(manifests)
    for name, pod in pods(manifests).items():
        sleep_s = found[name]["lifecycle"]["preStop"]["sleep"]["seconds"]
        stop_s = drain_s if name in SETTINGS else exit_timeout_s(found[name])
        assert sleep_s > 0, name
        assert pod["spec"]["terminationGracePeriodSeconds"] > sleep_s + stop_s, name


def exit_timeout_s(container: Manifest) -> int:
    (flag,) = (flag for flag in container["args"] if flag.startswith("--exit-timeout-secs="))
    return int(flag.split("=")[1])


@each_kustomization
def test_probes_are_grpc_probes_of_names_that_exist(render: Render, folder: str) -> None:
    for name, container in containers(render(folder)).items():
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            # Probes speak no TLS: with it, health has a port of its own.
            assert container[probe]["grpc"]["port"] == ports.get("health", ports["grpc"]), f"{name} {probe}"
        services = {
            probe: container[probe]["grpc"].get("service")
            for probe in ("startupProbe", "readinessProbe", "livenessProbe")
        }
        if name == "naiad-triton":
            assert set(services.values()) == {None}
        else:
            readiness = f"naiad.v1.{name.removeprefix('naiad-').capitalize()}Service"
            assert services == {"startupProbe": LIVENESS, "readinessProbe": readiness, "livenessProbe": LIVENESS}


async def test_liveness_holds_while_the_service_does_not_serve() -> None:
    health = HealthService(["naiad.v1.GenerationService"])
    health.set_serving(True)
    health.shut_down()
    statuses = health._status
    assert statuses.pop(LIVENESS) == SERVING
    assert SERVING not in statuses.values()


@each_kustomization
def test_the_services_accept_their_settings_and_listen_where_the_manifest_says(render: Render, folder: str) -> None:
    manifests = render(folder)
    environ = settings_of(manifests)
    for name, settings_class in SETTINGS.items():
        settings = load_settings(settings_class, environ)
        ports = {port["name"]: port["containerPort"] for port in containers(manifests)[name]["ports"]}
        health = {"health": settings.health_port} if settings.health_port else {}
        assert ports == {"grpc": settings.port, "metrics": settings.metrics_port, **health}, name
        assert settings.tls_enabled is bool(health), name
        assert settings.host == "0.0.0.0"
        assert str(settings.model_repository) == environ["NAIAD_MODEL_REPOSITORY"]


@each_kustomization
def test_settings_are_nowhere_but_in_the_shared_config_map(render: Render, folder: str) -> None:
    manifests = render(folder)
    for name, container in containers(manifests).items():
        names = {variable["name"] for variable in container.get("env", [])}
        assert not {n for n in names if n.startswith("NAIAD_")}, f"{name}: settings belong in naiad-settings"


@each_kustomization
def test_services_reach_triton_where_it_listens(render: Render, folder: str) -> None:
    manifests = render(folder)
    address = settings_of(manifests)["NAIAD_TRITON_ADDRESS"]
    assert address.startswith("dns:///"), "or else only one pod would be used"
    host, port = address.removeprefix("dns:///").split(":")
    service = of_kind(manifests, "Service")[host]
    assert service["spec"]["clusterIP"] == "None"
    assert [entry["port"] for entry in service["spec"]["ports"]] == [int(port)]
    triton = containers(manifests)[host]
    assert {entry["name"]: entry["containerPort"] for entry in triton["ports"]} == TRITON_PORTS
    assert f"--grpc-port={TRITON_PORTS['grpc']}" in triton["args"]
    assert f"--metrics-port={TRITON_PORTS['metrics']}" in triton["args"]


@each_kustomization
def test_services_are_headless_and_expose_only_grpc(render: Render, folder: str) -> None:
    manifests = render(folder)
    for name, service in of_kind(manifests, "Service").items():
        (port,) = service["spec"]["ports"]
        (container_port,) = (p["containerPort"] for p in containers(manifests)[name]["ports"] if p["name"] == "grpc")
        assert service["spec"]["clusterIP"] == "None", name
        assert (port["port"], port["targetPort"]) == (container_port, "grpc"), name


@each_kustomization
def test_only_the_services_reach_triton_and_only_prometheus_the_metrics(render: Render, folder: str) -> None:
    policies = {name: policy["spec"] for name, policy in of_kind(render(folder), "NetworkPolicy").items()}
    deny_all = policies.pop("naiad-deny-all")
    assert deny_all["podSelector"] == {"matchLabels": {"app.kubernetes.io/part-of": "naiad"}}
    assert deny_all["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & deny_all.keys()
    sources: dict[object, list[Manifest]] = {}
    for policy in policies.values():
        for rule in policy.get("ingress", []):
            for port in rule["ports"]:
                sources.setdefault(port["port"], []).extend(rule["from"])
    assert sources.keys() == {"grpc", 8001, "metrics"}
    (to_triton,) = sources[8001]
    assert to_triton["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "service"
    (to_metrics,) = sources["metrics"]
    assert to_metrics["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}
    # The port called grpc is also Triton's: the clients' policy must not select Triton.
    clients = policies["naiad-clients-to-services"]
    assert clients["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "service"
    assert pods(render(folder))["naiad-triton"]["metadata"]["labels"]["app.kubernetes.io/component"] == "engine"


def test_secrets_are_mounted_where_the_settings_look_for_them(render: Render) -> None:
    manifests = render("overlays/access")
    settings = load_settings(GenerationSettings, settings_of(manifests))
    wanted = {Path(settings.tls_certificate), Path(settings.tls_private_key), Path(settings.tenants_file)}
    for name in SETTINGS:
        volumes = {volume["name"]: volume for volume in pods(manifests)[name]["spec"]["volumes"]}
        mounts = {
            Path(mount["mountPath"]): mount
            for mount in containers(manifests)[name]["volumeMounts"]
            if "secret" in volumes[mount["name"]]
        }
        assert {path.parent for path in wanted} == mounts.keys(), name
        # A file mounted by itself would never change with its Secret.
        assert all(mount["readOnly"] and "subPath" not in mount for mount in mounts.values()), name
    triton = pods(manifests)["naiad-triton"]
    assert not any("secret" in volume for volume in triton["spec"]["volumes"])
    for name, service in of_kind(manifests, "Service").items():
        is_plain = service["spec"]["ports"][0].get("appProtocol") == "kubernetes.io/h2c"
        assert is_plain is (name == "naiad-triton"), name


def test_autoscalers_own_the_replicas_and_scale_what_exists(render: Render) -> None:
    manifests = render("overlays/production")
    deployments = of_kind(manifests, "Deployment")
    assert set(of_kind(manifests, "HorizontalPodAutoscaler")) == set(deployments)
    for name, scaler in of_kind(manifests, "HorizontalPodAutoscaler").items():
        assert scaler["spec"]["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
        assert "replicas" not in deployments[name]["spec"], name


def test_tritons_flags_are_flags_that_tritonserver_knows(render: Render) -> None:
    spec = importlib.util.find_spec("pytriton")
    assert spec is not None and spec.origin is not None, "pip install --no-deps nvidia-pytriton"
    folder = Path(spec.origin).parent / "tritonserver"
    server = folder / "bin" / "tritonserver"
    environ = {"LD_LIBRARY_PATH": str(folder / "external_libs")}
    done = subprocess.run([server, "--help"], env=environ, capture_output=True, text=True, timeout=60, check=False)
    known = {
        word for line in (done.stdout + done.stderr).splitlines() for word in line.split() if word.startswith("--")
    }
    assert "--model-repository" in known, done.stderr
    program, *flags = containers(render("base"))["naiad-triton"]["args"]
    assert program == "tritonserver"
    assert {flag.split("=")[0] for flag in flags} <= known
