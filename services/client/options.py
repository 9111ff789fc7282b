"""How a client connects: targets, channel options, credentials, and what every call carries."""

import ipaddress
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import grpc

REQUEST_ID_KEY = "x-request-id"
SERVICE_CONFIG_FILE = "service_config.json"

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True)
class Tls:
    """PEM files. Without `root_certificates` those of the system are trusted; `certificate` and `key` go together.

    server_name: what the servers' certificates must name; None: the host of the target.
    """

    root_certificates: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None

    def arguments(self) -> tuple[tuple[str, str | int], ...]:
        """gRPC's channel arguments that go with the credentials."""
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)

    def credentials(self) -> grpc.ChannelCredentials:
        """Raises OSError for a file that cannot be read, ValueError for half a pair."""
        if (self.certificate is None) != (self.key is None):
            raise ValueError("a certificate and its key go together")
        return grpc.ssl_channel_credentials(
            root_certificates=_bytes_of(self.root_certificates),
            private_key=_bytes_of(self.key),
            certificate_chain=_bytes_of(self.certificate),
        )


@dataclass(frozen=True)
class Options:
    """Defaults that suit naiad's servers. A deadline of None is none; each call may bring its own."""

    timeout_s: float | None = 60.0
    stream_timeout_s: float | None = 600.0
    # Servers permit a ping each 30 s.
    keepalive_time_ms: int = 60_000
    keepalive_timeout_ms: int = 20_000
    max_reconnect_backoff_ms: int = 2_000
    # Servers that say NOT_SERVING get no calls. With a single server its own error says more, so it may be turned off.
    health_checks: bool = True
    # Bytes; -1 is no bound. Vectors of all tokens of many texts are larger than gRPC's 4 MiB.
    max_receive_bytes: int = -1


def service_config_json() -> str:
    """The published service config, as it lies in the package."""
    return resources.files(__package__).joinpath(SERVICE_CONFIG_FILE).read_text(encoding="utf-8")


def channel_arguments(options: Options) -> tuple[tuple[str, str | int], ...]:
    """gRPC's channel arguments for `options`, with the published service config among them."""
    config = json.loads(service_config_json())
    if not options.health_checks:
        del config["healthCheckConfig"]
    return (
        ("grpc.service_config", json.dumps(config)),
        ("grpc.service_config_disable_resolution", 1),  # nobody's DNS changes what is retried
        ("grpc.enable_retries", 1),
        ("grpc.max_receive_message_length", options.max_receive_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", options.keepalive_time_ms),
        ("grpc.keepalive_timeout_ms", options.keepalive_timeout_ms),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 5_000),  # how long an attempt may take, TLS and all; not a wait
        ("grpc.max_reconnect_backoff_ms", options.max_reconnect_backoff_ms),
    )


def target_uri(target: str | Sequence[str]) -> str:
    """One gRPC target for an address, a URI (`dns:///name:port`), or several IP:PORT. Raises ValueError."""
    if isinstance(target, str):
        return target
    if not target:
        raise ValueError("no address")
    if len(target) == 1:
        return target[0]
    versions = {_ip_version(address) for address in target}
    if len(versions) > 1:
        raise ValueError("addresses of one client are all IPv4 or all IPv6")
    return f"ipv{versions.pop()}:{','.join(target)}"


def _ip_version(address: str) -> int:
    host, _, port = address.rpartition(":")
    version: int
    try:
        version = ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).version
    except ValueError:
        version = 0
    if not version or not port.isdigit():
        raise ValueError(f"{address!r} is not IP:PORT; for a name that stands for several servers use dns:///NAME:PORT")
    return version


def new_request_id() -> str:
    """A request id that no other call has."""
    return uuid.uuid4().hex


def call_metadata(given: Sequence[tuple[str, str | bytes]] | None, fixed: Metadata) -> tuple[Metadata, str]:
    """What a call sends, and its request id: the given one or a fresh one."""
    metadata = (*fixed, *(given or ()))
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return metadata, value
    request_id = new_request_id()
    return (*metadata, (REQUEST_ID_KEY, request_id)), request_id


def token_metadata(token: str | None) -> Metadata:
    """What a bearer token adds to each call."""
    return () if token is None else (("authorization", f"Bearer {token}"),)


def _bytes_of(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
