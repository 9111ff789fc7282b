"""An export that cannot write says so in one line, and the entry of before stays whole."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.model_scan import scan_entry
from tests.conformance.tiny_checkpoints import save_tiny

pytestmark = [pytest.mark.conformance, pytest.mark.slow]  # three exports, each with torch

REPOSITORY_ROOT = Path(__file__).parents[2]


def export(checkpoint: Path, repository: Path, limit_bytes: int | None = None) -> subprocess.CompletedProcess[str]:
    """`naiad export --force`; no file that it writes may be larger than the limit."""

    def limited() -> None:
        if limit_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    return subprocess.run(
        [
            sys.executable,
            *["-m", "services.cli.main", "export", "--name=tiny", "--force"],
            f"--repository={repository}",
            checkpoint,
        ],
        cwd=REPOSITORY_ROOT,
        env={
            **os.environ,
            "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        preexec_fn=limited,
    )


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("bad_disk") / "checkpoint", "bert", "embed")


def test_a_full_disk_leaves_the_entry_of_before(checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models"
    first = export(checkpoint, repository)
    assert first.returncode == 0, first.stderr
    before = scan_entry(repository / "tiny")
    files = sorted(path.stat().st_size for path in (repository / "tiny").rglob("*") if path.is_file())

    # Enough for no file, and for all but the largest one.
    for limit_bytes in (files[0] // 2, files[-1] - 1):
        full = export(checkpoint, repository, limit_bytes)
        assert full.returncode == 2, full.stderr
        message = full.stderr.strip().splitlines()[-1]
        assert message.startswith("naiad export: cannot write to "), full.stderr
        assert message.endswith("File too large; the repository is as it was")
        assert scan_entry(repository / "tiny") == before
        assert sorted(path.name for path in tmp_path.iterdir()) == ["models"]
