"""How tritonserver is found and called."""

import importlib.util
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from services.supervisor.errors import StartError

BACKEND_LIBRARY = "naiad/libtriton_naiad.so"
EXIT_TIMEOUT_S = 15
# What the services never ask Triton for: such calls need a header whose value is made up at each start and told nobody.
LOCKED_PROTOCOLS = (
    "shared-memory", "model-repository", "model-config", "metadata", "statistics", "trace", "logging",
)  # fmt: skip
LOCK_HEADER = "naiad-admin"


@dataclass(frozen=True)
class TritonOptions:
    """What the command line of tritonserver depends on."""

    server: Path
    onnxruntime_library: Path
    model_repository: Path
    backend_directory: Path
    host: str
    grpc_port: int
    metrics_port: int
    tls_arguments: tuple[str, ...] = ()
    lock: str = field(default_factory=lambda: secrets.token_hex(32), repr=False, compare=False)

    def command(self) -> tuple[str, ...]:
        """The command line: models are fixed at start, nothing is guessed, a model that does not load ends it."""
        return (
            str(self.server),
            f"--model-repository={self.model_repository}",
            f"--backend-directory={self.backend_directory}",
            f"--backend-config=naiad,onnxruntime_library={self.onnxruntime_library}",
            "--model-control-mode=none",
            "--disable-auto-complete-config",
            "--exit-on-error=true",
            "--strict-readiness=true",
            f"--exit-timeout-secs={EXIT_TIMEOUT_S}",
            "--allow-http=false",
            "--allow-grpc=true",
            f"--grpc-address={self.host}",
            f"--grpc-port={self.grpc_port}",
            f"--grpc-restricted-protocol={','.join(LOCKED_PROTOCOLS)}:{LOCK_HEADER}={self.lock}",
            *self.tls_arguments,
            "--allow-metrics=true",
            "--allow-gpu-metrics=false",
            f"--metrics-address={self.host}",
            f"--metrics-port={self.metrics_port}",
        )

    def models(self) -> list[str]:
        """Names of the models in the repository, in alphabetical order."""
        if not self.model_repository.is_dir():
            return []
        # What starts with a dot is the staging folder of an export in progress.
        entries = (entry for entry in self.model_repository.iterdir() if not entry.name.startswith("."))
        return sorted(entry.name for entry in entries if (entry / "config.pbtxt").is_file())

    def check(self) -> None:
        """Raises StartError for the first thing that is missing."""
        if not os.access(self.server, os.X_OK):
            raise StartError(
                f"tritonserver is not at {self.server}: run `make setup`, or set NAIAD_TRITON_SERVER to its path"
            )
        if not self.onnxruntime_library.is_file():
            raise StartError(
                f"ONNX Runtime is not at {self.onnxruntime_library}: run `make setup`, or set NAIAD_ONNXRUNTIME_LIBRARY"
            )
        backend = self.backend_directory / BACKEND_LIBRARY
        if not backend.is_file():
            raise StartError(
                f"the backend is not built ({backend} is missing): run `make core`, or set NAIAD_BACKEND_DIRECTORY"
            )
        if not self.models():
            raise StartError(
                f"there is no model in {self.model_repository}: run `make models`, export one with `naiad export`, "
                "or name another folder with --repository"
            )


def find_tritonserver() -> Path:
    """The tritonserver inside the nvidia-pytriton package, found without importing it."""
    return (
        _package_folder("pytriton", "nvidia-pytriton", "NAIAD_TRITON_SERVER") / "tritonserver" / "bin" / "tritonserver"
    )


def find_onnxruntime_library() -> Path:
    """libonnxruntime.so inside the onnxruntime package, found without importing it."""
    folder = _package_folder("onnxruntime", "onnxruntime", "NAIAD_ONNXRUNTIME_LIBRARY") / "capi"
    libraries = sorted(folder.glob("libonnxruntime.so*"))
    return libraries[-1] if libraries else folder / "libonnxruntime.so"


def _package_folder(module: str, distribution: str, variable: str) -> Path:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise StartError(f"the package {distribution} is not installed: run `make setup`, or set {variable}")
    return Path(next(iter(spec.submodule_search_locations)))
