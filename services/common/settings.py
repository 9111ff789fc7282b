"""Settings of every naiad process: one frozen dataclass each, read once from environment variables.

Each field carries its variable, range and meaning as metadata; `docs/configuration.md` is generated from it
(`python -m services.common.settings_page`).
"""

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.common.access_settings import AccessSettings
from services.common.canary import CanarySettings
from services.common.client_credentials import CredentialSettings
from services.common.cpu_priority import CpuPrioritySettings
from services.common.fleet_settings import FleetSettings
from services.common.lifecycle import LifecycleSettings
from services.common.model_settings import ModelIntegritySettings
from services.common.observability_settings import ObservabilitySettings
from services.common.overload_settings import (
    ClassificationLimitSettings,
    GenerationLimitSettings,
    OverloadSettings,
    TokenizationLimitSettings,
)
from services.common.safety_settings import SafetySettings
from services.common.setting import (
    ENV_PREFIX,
    METADATA_KEY,
    SettingsError,
    SettingSpec,
    parse_setting,
    port_setting,
    setting,
    specs_of,
)
from services.common.triton_tls import TritonServerTlsSettings, TritonTlsSettings


@dataclass(frozen=True)
class CommonSettings(CpuPrioritySettings, LifecycleSettings, AccessSettings, ObservabilitySettings, OverloadSettings):
    """Settings that all services share."""

    host: str = setting("127.0.0.1", "HOST", doc="Address on which gRPC and metrics ports listen.")
    model_repository: Path = setting(
        Path("model_repository"), "MODEL_REPOSITORY", doc="Folder that holds the exported models."
    )
    log_level: str = setting(
        "info",
        "LOG_LEVEL",
        doc="Least severe log lines that are written.",
        choices=("debug", "info", "warning", "error"),
    )
    max_receive_bytes: int = setting(
        4 * 1024 * 1024,
        "MAX_RECEIVE_BYTES",
        doc="Largest request message; a larger one is refused with RESOURCE_EXHAUSTED.",
        minimum=1024,
        maximum=64 * 1024 * 1024,
    )
    max_concurrent_streams: int = setting(
        1024,
        "MAX_CONCURRENT_STREAMS",
        doc="Most calls in flight on one client connection; more wait in the client.",
        minimum=1,
        maximum=100_000,
    )
    retry_after_ms: int = setting(
        500,
        "RETRY_AFTER_MS",
        doc="Shortest wait that an OVERLOADED answer asks of the client.",
        minimum=1,
        maximum=60_000,
    )
    chat_template_timeout_ms: int = setting(
        1_000,
        "CHAT_TEMPLATE_TIMEOUT_MS",
        doc="Longest time that a chat template may take for one conversation.",
        minimum=10,
        maximum=60_000,
    )
    tokenizer_inflight_bytes: int = setting(
        4 * 1024 * 1024,
        "TOKENIZER_INFLIGHT_BYTES",
        doc="Most bytes of text that a process tokenizes at once; more is refused with OVERLOADED. Tokenizing takes"
        " some 200 times the size of the text in memory while it lasts.",
        minimum=1024 * 1024,
        maximum=1024 * 1024 * 1024,
    )


@dataclass(frozen=True)
class TritonSettings(FleetSettings, CanarySettings, TritonTlsSettings, CommonSettings):
    """Settings of the services that talk to Triton."""

    triton_probe_interval_ms: int = setting(
        250,
        "TRITON_PROBE_INTERVAL_MS",
        doc="Time between two health probes of Triton.",
        minimum=10,
        maximum=60_000,
    )
    triton_probe_timeout_ms: int = setting(
        1_000,
        "TRITON_PROBE_TIMEOUT_MS",
        doc="An unanswered probe this old means that Triton is down, unless it answers requests.",
        minimum=10,
        maximum=60_000,
    )
    triton_stall_timeout_ms: int = setting(
        5_000,
        "TRITON_STALL_TIMEOUT_MS",
        doc="An unanswered probe this old fails the requests in flight, unless Triton answers others.",
        minimum=100,
        maximum=600_000,
    )


@dataclass(frozen=True)
class TokenizationSettings(TokenizationLimitSettings, CommonSettings):
    """Settings of the tokenization service."""

    port: int = port_setting(50051, "TOKENIZATION_PORT", "gRPC port; 0 picks a free one.")
    metrics_port: int = port_setting(9101, "TOKENIZATION_METRICS_PORT", "Prometheus port; 0 picks a free one.")


@dataclass(frozen=True)
class GenerationSettings(SafetySettings, GenerationLimitSettings, TritonSettings):
    """Settings of the generation service."""

    port: int = port_setting(50052, "GENERATION_PORT", "gRPC port; 0 picks a free one.")
    metrics_port: int = port_setting(9102, "GENERATION_METRICS_PORT", "Prometheus port; 0 picks a free one.")
    max_inflight_tokens: int = setting(
        65_536,
        "GENERATION_MAX_INFLIGHT_TOKENS",
        doc="Most tokens (the prompt, and asked-for new ones of all completions) of requests in flight; more is refused"
        " with OVERLOADED. A single request may exceed it when nothing else is in flight.",
        minimum=1,
        maximum=1_000_000_000,
    )
    max_inflight_requests: int = setting(
        256,
        "GENERATION_MAX_INFLIGHT_REQUESTS",
        doc="Most requests in flight; more is refused with OVERLOADED.",
        minimum=1,
        maximum=100_000,
    )
    max_buffered_responses: int = setting(
        4_096,
        "GENERATION_MAX_BUFFERED_RESPONSES",
        doc="Most engine responses that wait for a slow reader before its request is ended.",
        minimum=16,
        maximum=1_000_000,
    )
    max_buffered_bytes: int = setting(
        4 * 1024 * 1024,
        "GENERATION_MAX_BUFFERED_BYTES",
        doc="Most bytes of engine responses that wait for a slow reader before its request is ended.",
        minimum=64 * 1024,
        maximum=1024 * 1024 * 1024,
    )


@dataclass(frozen=True)
class ClassificationSettings(ClassificationLimitSettings, TritonSettings):
    """Settings of the classification service."""

    port: int = port_setting(50053, "CLASSIFICATION_PORT", "gRPC port; 0 picks a free one.")
    metrics_port: int = port_setting(9103, "CLASSIFICATION_METRICS_PORT", "Prometheus port; 0 picks a free one.")
    max_inflight_tokens: int = setting(
        262_144,
        "CLASSIFICATION_MAX_INFLIGHT_TOKENS",
        doc="Most tokens of requests in flight; more is refused with OVERLOADED. A single request may exceed it when"
        " nothing else is in flight.",
        minimum=1,
        maximum=1_000_000_000,
    )
    max_inflight_requests: int = setting(
        256,
        "CLASSIFICATION_MAX_INFLIGHT_REQUESTS",
        doc="Most requests in flight; more is refused with OVERLOADED.",
        minimum=1,
        maximum=100_000,
    )
    max_pack_tokens: int = setting(
        4_096,
        "CLASSIFICATION_MAX_PACK_TOKENS",
        doc="Most tokens of texts that go to Triton in one request; longer batches are sent as several.",
        minimum=1,
        maximum=1_000_000,
    )
    max_parallel_packs: int = setting(
        4,
        "CLASSIFICATION_MAX_PARALLEL_PACKS",
        doc="Most requests to Triton in flight for one model; meanwhile texts of further calls gather and go together.",
        minimum=1,
        maximum=1_000,
    )
    max_stream_items: int = setting(
        4_096,
        "CLASSIFICATION_MAX_STREAM_ITEMS",
        doc="Most items of one ClassifyStream that wait for their answers; reading stops until there are fewer.",
        minimum=1,
        maximum=1_000_000,
    )
    max_stream_bytes: int = setting(
        2 * 1024 * 1024,
        "CLASSIFICATION_MAX_STREAM_BYTES",
        doc="Most bytes of texts of one ClassifyStream that wait for their answers, and one message more.",
        minimum=1024,
        maximum=1024 * 1024 * 1024,
    )
    max_response_bytes: int = setting(
        4 * 1024 * 1024,
        "CLASSIFICATION_MAX_RESPONSE_BYTES",
        doc="Largest response message; a request that needs a larger one is refused with INVALID_ARGUMENT before it is"
        " computed. The default is what gRPC clients accept unless told otherwise.",
        minimum=64 * 1024,
        maximum=1024 * 1024 * 1024,
    )


@dataclass(frozen=True)
class SupervisorSettings(ModelIntegritySettings, TritonServerTlsSettings, TritonTlsSettings, CommonSettings):
    """Settings of `naiad serve`."""

    triton_server: str = setting(
        "auto", "TRITON_SERVER", doc="The tritonserver program; auto is the one in the package nvidia-pytriton."
    )
    onnxruntime_library: str = setting(
        "auto", "ONNXRUNTIME_LIBRARY", doc="The libonnxruntime.so to load; auto is the one in the package onnxruntime."
    )
    backend_directory: Path = setting(
        Path("build/core/backends"), "BACKEND_DIRECTORY", doc="Folder that holds naiad/libtriton_naiad.so."
    )
    simd_level: str = setting(
        "auto",
        "SIMD_LEVEL",
        doc="Vector instructions of the kernels in Triton; auto takes the best that the CPU has. With 4-bit weights "
        "amx rounds otherwise than the others: give all Tritons of a mixed fleet the same level.",
        choices=("auto", "scalar", "avx2", "avx512", "amx"),
    )
    ops_library: Path = setting(
        Path("build/core/libnaiad_ops.so"), "OPS_LIBRARY", doc="Operators that `naiad export` verifies a graph with."
    )
    log_directory: Path = setting(
        Path("build/logs"), "LOG_DIRECTORY", doc="Folder for the logs of Triton and the services."
    )
    triton_host: str = setting("127.0.0.1", "TRITON_HOST", doc="Address on which Triton's ports listen.")
    triton_grpc_port: int = port_setting(8001, "TRITON_GRPC_PORT", "Triton's gRPC port; 0 picks a free one.")
    triton_metrics_port: int = port_setting(
        8002, "TRITON_METRICS_PORT", "Triton's Prometheus port; 0 picks a free one."
    )
    triton_replicas: int = setting(
        1,
        "TRITON_REPLICAS",
        doc="How many Tritons are started. The second and later ones listen on free ports.",
        minimum=1,
        maximum=16,
    )
    triton_start_timeout_ms: int = setting(
        300_000,
        "TRITON_START_TIMEOUT_MS",
        doc="Time that Triton has to load all models.",
        minimum=1_000,
        maximum=3_600_000,
    )
    max_deaths_per_minute: int = setting(
        5,
        "MAX_DEATHS_PER_MINUTE",
        doc="So many deaths of one part within a minute end the system; before that it is started again.",
        minimum=1,
        maximum=1_000,
    )


@dataclass(frozen=True)
class ClientSettings(CredentialSettings, CommonSettings):
    """Settings of the commands that call the services."""

    tokenization_address: str = setting(
        "auto", "TOKENIZATION_ADDRESS", doc="HOST:PORT to call; auto is where `naiad serve` puts the service."
    )
    generation_address: str = setting(
        "auto", "GENERATION_ADDRESS", doc="HOST:PORT to call; auto is where `naiad serve` puts the service."
    )
    classification_address: str = setting(
        "auto", "CLASSIFICATION_ADDRESS", doc="HOST:PORT to call; auto is where `naiad serve` puts the service."
    )


ALL_SETTINGS: tuple[type[CommonSettings], ...] = (
    TokenizationSettings,
    GenerationSettings,
    ClassificationSettings,
    SupervisorSettings,
    ClientSettings,
)

SettingsT = TypeVar("SettingsT", bound=CommonSettings)


def known_variables() -> frozenset[str]:
    """All variables that any part of naiad reads."""
    return frozenset(spec.env for cls in ALL_SETTINGS for spec in specs_of(cls).values())


def check_names(environ: Mapping[str, str]) -> None:
    """Raises SettingsError for the first `NAIAD_` variable that no part of naiad knows."""
    known = known_variables()
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in known:
            # Without the prefix, which alone would make any two names similar.
            endings = [variable.removeprefix(ENV_PREFIX) for variable in sorted(known)]
            near = difflib.get_close_matches(name.removeprefix(ENV_PREFIX), endings, n=1)
            hint = f"; did you mean {ENV_PREFIX}{near[0]}?" if near else "; docs/configuration.md lists all settings"
            raise SettingsError(f"{name} is not a setting of naiad{hint}")


def load_settings(settings_class: type[SettingsT], environ: Mapping[str, str] | None = None) -> SettingsT:
    """Reads the settings of one process. Raises SettingsError naming variable, value and range."""
    environ = os.environ if environ is None else environ
    check_names(environ)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(settings_class):
        spec: SettingSpec = field.metadata[METADATA_KEY]
        if spec.env in environ:
            values[field.name] = parse_setting(environ[spec.env], field.default, spec)
    return settings_class(**values)
