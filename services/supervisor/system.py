"""The whole system as members of a supervisor: Triton first, or several of it, then the services."""

import dataclasses
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.common.addresses import SERVICE_SETTINGS, ServiceSettings, local_address
from services.common.settings import SupervisorSettings, load_settings
from services.common.triton_tls import TritonTls
from services.supervisor import ports, readiness
from services.supervisor.child import ChildSpec
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.supervisor import Member
from services.supervisor.triton_command import (
    EXIT_TIMEOUT_S,
    TritonOptions,
    find_onnxruntime_library,
    find_tritonserver,
)
from services.supervisor.triton_log import TritonLog

AUTO = "auto"
SERVICE_START_TIMEOUT_S = 60.0
# A service needs a moment beyond its own grace to end calls that did not finish.
SERVICE_STOP_MARGIN_S = 5.0
TRITON_STOP_MARGIN_S = 5.0


@dataclass(frozen=True)
class Endpoint:
    """Where one part listens. The variables are the settings of its ports and host."""

    name: str
    host: str
    port: int
    metrics_port: int
    variable: str
    metrics_variable: str
    host_variable: str
    health_port: int = 0  # where health is asked for without TLS; 0: at the gRPC port
    metrics_tls: bool = False

    @property
    def address(self) -> str:
        """HOST:PORT of the gRPC port, for a caller on this machine."""
        return local_address(self.host, self.port)

    @property
    def health_address(self) -> str:
        """HOST:PORT that answers health without TLS, for a caller on this machine."""
        return local_address(self.host, self.health_port or self.port)

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus endpoint, for a caller on this machine."""
        return f"{'https' if self.metrics_tls else 'http'}://{local_address(self.host, self.metrics_port)}/metrics"

    def port_uses(self) -> list[ports.PortUse]:
        """Both ports, to be checked before the start."""
        metrics = f"{self.name} metrics"
        return [
            ports.PortUse(self.host, self.port, self.name, self.variable, self.host_variable),
            ports.PortUse(self.host, self.metrics_port, metrics, self.metrics_variable, self.host_variable),
        ]


# Else gRPC ends its threads and starts others whenever a service starts a program, as it does for chat templates: calls
# wait meanwhile, and the new threads do not have the priority of the old ones (`cpu_priority.py`).
_OF_SERVICES = {"GRPC_ENABLE_FORK_SUPPORT": "0"}


@dataclass(frozen=True)
class System:
    """What `naiad serve` runs."""

    settings: SupervisorSettings
    triton_options: TritonOptions  # of the first Triton; the others differ in their ports
    tritons: Sequence[Endpoint]
    services: Sequence[Endpoint]
    environment: Mapping[str, str]
    triton_tls: TritonTls | None = None

    def check(self) -> None:
        """Raises StartError for the first thing that would keep the system from starting."""
        self.triton_options.check()
        ports.check_free([use for endpoint in (*self.tritons, *self.services) for use in endpoint.port_uses()])

    def serving(self, models: Path) -> "System":
        """The same system with its models at `models`."""
        return dataclasses.replace(
            self,
            triton_options=dataclasses.replace(self.triton_options, model_repository=models),
            environment=dict(self.environment) | {"NAIAD_MODEL_REPOSITORY": str(models)},
        )

    def begin_logs(self) -> None:
        """Empties the logs of an earlier start. Raises StartError when they cannot be written."""
        try:
            self.settings.log_directory.mkdir(parents=True, exist_ok=True)
            for endpoint in (*self.tritons, *self.services):
                self._log_path(endpoint.name).write_bytes(b"")
        except OSError as error:
            mend = "set NAIAD_LOG_DIRECTORY to a folder that can be written"
            raise StartError(
                f"logs cannot be written to {self.settings.log_directory}: {error.strerror}; {mend}"
            ) from None

    def stages(self, reporter: Reporter) -> list[list[Member]]:
        """All Tritons, then the services."""
        return [
            [self._triton_member(triton, reporter) for triton in self.tritons],
            [self._service_member(service) for service in self.services],
        ]

    def _triton_member(self, triton: Endpoint, reporter: Reporter) -> Member:
        log_path = self._log_path(triton.name)
        options = dataclasses.replace(self.triton_options, grpc_port=triton.port, metrics_port=triton.metrics_port)

        async def wait_ready() -> None:
            # Asked at each start: a reload may have brought other models.
            models = self.triton_options.models()
            await readiness.wait_until_models_ready(
                triton.address, models, readiness.LoadProgress(log_path, reporter), self.triton_tls
            )

        spec = ChildSpec(
            name=triton.name,
            command=options.command(),
            environment=self.environment,
            log_path=log_path,
            stop_timeout_s=EXIT_TIMEOUT_S + TRITON_STOP_MARGIN_S,
            log_reading=TritonLog(),
        )
        return Member(spec, wait_ready, start_timeout_s=self.settings.triton_start_timeout_ms / 1e3)

    def _service_member(self, service: Endpoint) -> Member:
        async def wait_ready() -> None:
            await readiness.wait_until_serving(service.health_address)

        drain_ms = self.settings.drain_notice_ms + self.settings.drain_grace_ms
        spec = ChildSpec(
            name=service.name,
            # -P: a folder named "services" where naiad was started must not be taken for ours.
            command=(sys.executable, "-P", "-m", f"services.{service.name}"),
            environment={**self.environment, **_OF_SERVICES, "NAIAD_HEALTH_PORT": str(service.health_port)},
            log_path=self._log_path(service.name),
            stop_timeout_s=drain_ms / 1e3 + SERVICE_STOP_MARGIN_S,
        )
        return Member(spec, wait_ready, SERVICE_START_TIMEOUT_S)

    def _log_path(self, name: str) -> Path:
        return self.settings.log_directory / f"{name}.log"


def plan(environ: Mapping[str, str], repository: Path | None, wanted_services: Sequence[str]) -> System:
    """The system that these settings describe. Raises SettingsError, and StartError when a package is missing."""
    settings = load_settings(SupervisorSettings, environ)
    settings = dataclasses.replace(
        settings,
        model_repository=(repository or settings.model_repository).resolve(),
        backend_directory=settings.backend_directory.resolve(),
        log_directory=settings.log_directory.resolve(),
    )
    of_services = {name: load_settings(SERVICE_SETTINGS[name], environ) for name in wanted_services}
    taken = {settings.triton_grpc_port, settings.triton_metrics_port}
    taken.update(port for service in of_services.values() for port in (service.port, service.metrics_port))
    tritons = [_triton_endpoint(settings, number, taken) for number in range(1, settings.triton_replicas + 1)]
    services = [_service_endpoint(name, service, taken) for name, service in of_services.items()]
    options = TritonOptions(
        server=find_tritonserver() if settings.triton_server == AUTO else Path(settings.triton_server).resolve(),
        onnxruntime_library=find_onnxruntime_library()
        if settings.onnxruntime_library == AUTO
        else Path(settings.onnxruntime_library).resolve(),
        model_repository=settings.model_repository,
        backend_directory=settings.backend_directory,
        host=settings.triton_host,
        grpc_port=tritons[0].port,
        metrics_port=tritons[0].metrics_port,
        tls_arguments=settings.triton_tls_arguments(),
    )
    environment = dict(environ) | {
        "NAIAD_MODEL_REPOSITORY": str(settings.model_repository),
        "NAIAD_TRITON_ADDRESS": ",".join(triton.address for triton in tritons),
        "PYTHONUNBUFFERED": "1",
    }
    for endpoint in services:
        environment |= {endpoint.variable: str(endpoint.port), endpoint.metrics_variable: str(endpoint.metrics_port)}
    return System(settings, options, tritons, services, environment, TritonTls.of(settings))


def _triton_endpoint(settings: SupervisorSettings, number: int, taken: set[int]) -> Endpoint:
    """The endpoint of the Triton with this number, from 1; only the first has ports that are set."""
    port, metrics_port = (settings.triton_grpc_port, settings.triton_metrics_port) if number == 1 else (0, 0)
    return Endpoint(
        name="triton" if number == 1 else f"triton-{number}",
        host=settings.triton_host,
        port=port or _free_port(settings.triton_host, taken),
        metrics_port=metrics_port or _free_port(settings.triton_host, taken),
        variable="NAIAD_TRITON_GRPC_PORT",
        metrics_variable="NAIAD_TRITON_METRICS_PORT",
        host_variable="NAIAD_TRITON_HOST",
    )


def _service_endpoint(name: str, settings: ServiceSettings, taken: set[int]) -> Endpoint:
    prefix = f"NAIAD_{name.upper()}"
    return Endpoint(
        name=name,
        host=settings.host,
        port=settings.port or _free_port(settings.host, taken),
        metrics_port=settings.metrics_port or _free_port(settings.host, taken),
        variable=f"{prefix}_PORT",
        metrics_variable=f"{prefix}_METRICS_PORT",
        host_variable="NAIAD_HOST",
        # Whoever starts the services has none of the certificates that they may want to see.
        health_port=_free_port(settings.host, taken) if settings.tls_enabled else 0,
        metrics_tls=settings.metrics_tls,
    )


def _free_port(host: str, taken: set[int]) -> int:
    """A free port that is not in `taken`, and then is; the system itself may give the same one twice.

    It is chosen here, not by the child, so that a restarted child comes back where clients know it.
    """
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    port = 0
    while port == 0 or port in taken:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
            port = probe.getsockname()[1]
    taken.add(port)
    return port
