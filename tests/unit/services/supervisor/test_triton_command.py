"""Tritonserver's command line and what is checked before the start."""

import os
from pathlib import Path

import pytest

from services.supervisor.errors import StartError
from services.supervisor.triton_command import TritonOptions, find_onnxruntime_library, find_tritonserver


@pytest.fixture
def options(tmp_path: Path) -> TritonOptions:
    """All that is needed, as empty files."""
    server = tmp_path / "tritonserver"
    server.touch(mode=0o755)
    library = tmp_path / "libonnxruntime.so.1"
    library.touch()
    backend = tmp_path / "backends" / "naiad" / "libtriton_naiad.so"
    backend.parent.mkdir(parents=True)
    backend.touch()
    for model in ("embed", "chat", ".staging-x"):
        (tmp_path / "models" / model).mkdir(parents=True)
        (tmp_path / "models" / model / "config.pbtxt").touch()
    return TritonOptions(server, library, tmp_path / "models", tmp_path / "backends", "127.0.0.1", 8001, 8002)


def test_a_complete_installation_passes(options: TritonOptions) -> None:
    options.check()


def test_models_are_listed_without_staging_folders(options: TritonOptions) -> None:
    assert options.models() == ["chat", "embed"]


@pytest.mark.parametrize(
    ("missing", "mend"),
    [
        ("tritonserver", "NAIAD_TRITON_SERVER"),
        ("libonnxruntime.so.1", "NAIAD_ONNXRUNTIME_LIBRARY"),
        ("backends/naiad/libtriton_naiad.so", "make core"),
        ("models/chat/config.pbtxt", "make models"),
    ],
)
def test_what_is_missing_is_named_with_how_to_mend_it(
    options: TritonOptions, tmp_path: Path, missing: str, mend: str
) -> None:
    (tmp_path / missing).unlink()
    (tmp_path / "models/embed/config.pbtxt").unlink()
    with pytest.raises(StartError) as caught:
        options.check()
    assert mend in str(caught.value)
    assert "\n" not in str(caught.value)


def test_each_start_has_a_lock_of_its_own_that_a_restart_keeps(options: TritonOptions) -> None:
    other = TritonOptions(
        options.server, options.onnxruntime_library, options.model_repository, options.backend_directory, "::1", 1, 2
    )
    assert options.lock != other.lock
    assert options.command() == options.command()


def test_the_command_keeps_triton_on_its_host_and_its_models_fixed(options: TritonOptions) -> None:
    command = options.command()
    assert command[0] == str(options.server)
    for flag in (
        "--allow-http=false",
        "--grpc-address=127.0.0.1",
        "--metrics-address=127.0.0.1",
        "--model-control-mode=none",
        "--disable-auto-complete-config",
        "--exit-on-error=true",
        "--grpc-port=8001",
        "--metrics-port=8002",
        f"--backend-config=naiad,onnxruntime_library={options.onnxruntime_library}",
    ):
        assert flag in command


def test_the_installed_packages_have_both_binaries() -> None:
    assert os.access(find_tritonserver(), os.X_OK)
    assert find_onnxruntime_library().is_file()
