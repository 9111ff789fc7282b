"""Entries appear whole or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from exporters.errors import ExportError
from exporters.writer import publish, refuse_existing, staging


def _fill(folder: Path, text: str) -> None:
    (folder / "1" / "model.onnx").write_text(text)
    (folder / "config.pbtxt").write_text(text)


def _write(repository: Path, text: str, force: bool = False) -> None:
    with staging(repository, "chat") as folder:
        _fill(folder, text)
        publish(folder, repository, "chat", force)


def _contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def test_a_published_entry_is_whole_and_readable_by_others(tmp_path: Path) -> None:
    _write(tmp_path / "repository", "new")
    entry = tmp_path / "repository" / "chat"
    assert _contents(entry) == {"1/model.onnx": "new", "config.pbtxt": "new"}
    assert entry.stat().st_mode & 0o055 == 0o055


def test_an_entry_that_is_there_is_kept_without_force(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    with pytest.raises(ExportError, match="--force"):
        refuse_existing(repository, "chat", force=False)
    with pytest.raises(ExportError, match="--force"):
        _write(repository, "new")
    assert _contents(repository / "chat")["config.pbtxt"] == "old"


def test_force_swaps_the_entry_and_leaves_nothing_behind(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    _write(repository, "new", force=True)
    assert _contents(repository) == {"chat/1/model.onnx": "new", "chat/config.pbtxt": "new"}
    assert not list(tmp_path.glob(".staging-*"))


def test_a_failure_while_the_entry_is_made_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    with pytest.raises(RuntimeError), staging(repository, "chat") as folder:
        _fill(folder, "half")
        raise RuntimeError("verification failed")
    assert _contents(tmp_path) == {"repository/chat/1/model.onnx": "old", "repository/chat/config.pbtxt": "old"}


_KILLED = """
import os, signal, sys
from pathlib import Path
import exporters.writer as writer
repository, step = Path(sys.argv[1]), sys.argv[2]
die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
with writer.staging(repository, "chat") as folder:
    (folder / "1" / "model.onnx").write_text("new")
    if step == "staged":
        die()
    (folder / "config.pbtxt").write_text("new")
    if step == "synced":
        writer._exchange = die
    if step == "swapped":
        writer._sync = lambda path: die() if path == repository else None
    writer.publish(folder, repository, "chat", True)
"""


@pytest.mark.parametrize(("step", "survivor"), [("staged", "old"), ("synced", "old"), ("swapped", "new")])
def test_an_export_killed_at_any_step_leaves_a_whole_entry(tmp_path: Path, step: str, survivor: str) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED, str(repository), step],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    assert killed.returncode == -signal.SIGKILL
    assert _contents(repository) == {"chat/1/model.onnx": survivor, "chat/config.pbtxt": survivor}
    assert len(list(tmp_path.glob(".staging-chat-*"))) == 1

    _write(repository, "next", force=True)
    assert not list(tmp_path.glob(".staging-*")), "leftovers are cleaned by the next export"


def test_the_staging_folder_of_a_running_export_is_left_alone(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with staging(repository, "first") as running:
        with staging(repository, "second"):
            pass
        assert running.is_dir()
