"""Entries that somebody tampered with never reach Triton, and most of them the backend would refuse by itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.malicious_models import ALL, SECRET, Mischief, entry_with_outside_weights
from tests.support.stack import REPOSITORY_ROOT, free_ports
from tests.support.triton import TritonFailedToStartError, run_triton

pytestmark = pytest.mark.component

# What a Triton that somebody starts without the scan refuses all the same.
BACKEND_REFUSES = ("traversal", "absolute", "memory-marker", "symlink-data", "cut-weights", "unknown-parameter")

# One of each kind; tests/unit/services/common/model_scan goes through all.
SERVE_REFUSES = (
    "traversal", "memory-marker", "symlink-data", "symlink-folder", "hard-link-data", "sparse-outside",
    "pickled-graph", "oversize-graph", "truncated", "another-hash", "python-backend", "operator-library",
    "large-template",
)  # fmt: skip


def mischief_called(name: str) -> Mischief:
    return next(mischief for mischief in ALL if mischief.name == name)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return entry_with_outside_weights(tmp_path / "models")


def serve(repository: Path, work_folder: Path) -> tuple[subprocess.CompletedProcess[str], bool]:
    """Runs `naiad serve` with a tritonserver that ends at once; how it ended, and whether that was ever started."""
    marker = work_folder / "started"
    server = work_folder / "tritonserver"
    server.write_text(f"#!/bin/sh\ntouch {marker}\nexit 3\n")
    server.chmod(0o755)
    ports = free_ports(8)
    names = ("TOKENIZATION", "GENERATION", "CLASSIFICATION", "TRITON_GRPC")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NAIAD_")}
    environment |= {
        "NAIAD_TRITON_GRPC_PORT": str(ports[0]),
        "NAIAD_TRITON_METRICS_PORT": str(ports[1]),
        "NAIAD_LOG_DIRECTORY": str(work_folder / "logs"),
        "NAIAD_TRITON_SERVER": str(server),
        "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}",
    }
    for number, name in enumerate(names[:3]):
        environment[f"NAIAD_{name}_PORT"] = str(ports[2 + number])
        environment[f"NAIAD_{name}_METRICS_PORT"] = str(ports[5 + number])
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli.main", "serve", "--repository", str(repository)],
        cwd=REPOSITORY_ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended, marker.exists()


def test_a_good_model_is_handed_to_tritonserver(victim: Path, tmp_path: Path) -> None:
    ended, started = serve(victim.parent, tmp_path)
    assert started, ended.stderr
    assert "triton did not start: exit code 3" in ended.stderr


@pytest.mark.parametrize("name", SERVE_REFUSES)
def test_serve_refuses_before_tritonserver_is_started(victim: Path, tmp_path: Path, name: str) -> None:
    mischief = mischief_called(name)
    mischief.apply(victim)
    ended, started = serve(victim.parent, tmp_path)
    assert not started
    assert ended.returncode == 1
    file = f"victim/{mischief.file}".rstrip("/")
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith(f"naiad: a model in {victim.parent} is refused: {file}: ")
    assert mischief.cause in last
    assert SECRET not in ended.stdout + ended.stderr
    assert not list(tmp_path.glob(".serving-*"))


@pytest.mark.parametrize("name", BACKEND_REFUSES)
def test_the_backend_refuses_without_the_scan(victim: Path, name: str) -> None:
    mischief_called(name).apply(victim)
    with pytest.raises(TritonFailedToStartError) as refused, run_triton(victim.parent):
        pass
    assert "failed to load 'victim'" in str(refused.value)
    assert SECRET not in str(refused.value)


def test_a_good_model_with_weights_outside_loads(victim: Path) -> None:
    with run_triton(victim.parent) as server:
        assert "successfully loaded 'victim'" in server.log()
