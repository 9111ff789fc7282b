"""Entries appear whole or not at all."""

from __future__ import annotations

import errno
import os
import resource
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


# Dies by itself before the STEPth call that asks the kernel to change or open something.
_KILLED_AT_STEP = """
import errno, os, signal, sys
from pathlib import Path
import exporters.writer as writer
repository, step, one_step_swap = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "one step"
if not one_step_swap:
    writer._RENAME_EXCHANGE = 1 << 30  # not known to any file system
EVENTS = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.call_function", "ctypes.dlsym")
seen = 0
def hook(event, arguments):
    global seen
    if event.startswith(EVENTS):
        seen += 1
        if seen == step:
            os.kill(os.getpid(), signal.SIGKILL)
with writer.staging(repository, "warm-up"):
    pass
sys.addaudithook(hook)
with writer.staging(repository, "chat") as folder:
    (folder / "1" / "model.onnx").write_text("new")
    (folder / "config.pbtxt").write_text("new")
    writer.publish(folder, repository, "chat", True)
"""
_MOST_STEPS = 200


@pytest.mark.parametrize("swap", ["one step", "two steps"])
def test_a_kill_at_any_step_leaves_the_old_or_the_new_entry_whole(tmp_path: Path, swap: str) -> None:
    survivors = []
    for step in range(1, _MOST_STEPS):
        repository = tmp_path / str(step) / "repository"
        _write(repository, "old")
        ended = subprocess.run(
            [sys.executable, "-c", _KILLED_AT_STEP, str(repository), str(step), swap],
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        if swap == "two steps":
            with staging(repository, "next"):
                pass  # whoever comes next finishes what was begun
        contents = _contents(repository)
        survivor = contents.get("chat/config.pbtxt", "none")
        assert contents == {"chat/1/model.onnx": survivor, "chat/config.pbtxt": survivor}, f"killed at step {step}"
        survivors.append(survivor)
        _write(repository, "next", force=True)
        assert _contents(repository.parent) == {
            "repository/chat/1/model.onnx": "next",
            "repository/chat/config.pbtxt": "next",
        }
        if ended.returncode == 0:
            break
        assert ended.returncode == -signal.SIGKILL
    assert ended.returncode == 0, "the export never came to its end"
    assert survivors == sorted(survivors, key=["old", "new"].index)
    assert survivors.count("old") > 10 and survivors.count("new") >= 2


def _limited_to(size_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))


def test_a_full_disk_is_an_error_that_names_the_file_and_leaves_the_old_entry(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    program = """
import sys
from pathlib import Path
from exporters.errors import ExportError
from exporters.writer import publish, staging
try:
    with staging(Path(sys.argv[1]), "chat") as folder:
        (folder / "1" / "model.onnx").write_bytes(b"x" * 100_000)
        publish(folder, Path(sys.argv[1]), "chat", True)
except ExportError as error:
    sys.exit(str(error))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program, str(repository)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        preexec_fn=lambda: _limited_to(50_000),
    )
    assert ended.returncode == 1
    assert ended.stderr.strip().endswith("File too large; the repository is as it was")
    assert _contents(tmp_path) == {"repository/chat/1/model.onnx": "old", "repository/chat/config.pbtxt": "old"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EDQUOT, errno.EROFS])
def test_errors_of_the_disk_are_told_in_one_line(tmp_path: Path, number: int) -> None:
    repository = tmp_path / "repository"
    _write(repository, "old")
    with pytest.raises(ExportError, match=r"model\.onnx: .*; the repository is as it was"):  # noqa: SIM117
        with staging(repository, "chat") as folder:
            raise OSError(number, os.strerror(number), str(folder / "1" / "model.onnx"))
    assert _contents(tmp_path) == {"repository/chat/1/model.onnx": "old", "repository/chat/config.pbtxt": "old"}


def test_an_error_that_is_not_the_disks_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ConnectionError), staging(tmp_path / "repository", "chat"):
        raise ConnectionError


def test_the_staging_folder_of_a_running_export_is_left_alone(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    with staging(repository, "first") as running:
        with staging(repository, "second"):
            pass
        assert running.is_dir()
