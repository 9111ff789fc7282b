"""Folders that belong to one running process, and are cleared away after it even if it was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MAX_ATTEMPTS = 100


@contextmanager
def locked_folder(parent: Path, prefix: str, name: str = "") -> Iterator[Path]:
    """A new folder in `parent` whose name begins with `prefix` and `name`; what has that path afterwards is removed.

    First removes folders of that prefix whose process has ended. Raises OSError when `parent` cannot be written.
    """
    _remove_leftovers(parent, prefix)
    folder, lock = _make(parent, f"{prefix}{name}")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def beside(folder: Path) -> Path:
    """Where a working folder for `folder` belongs: beside it, unless that is another file system or not ours to write;
    then inside."""
    parent = folder.resolve().parent
    if os.access(parent, os.W_OK) and parent.stat().st_dev == folder.stat().st_dev:
        return parent
    return folder


def _remove_leftovers(parent: Path, prefix: str) -> None:
    for folder in parent.glob(f"{prefix}*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _make(parent: Path, prefix: str) -> tuple[Path, int]:
    for _ in range(_MAX_ATTEMPTS):
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = _lock(folder)
        if lock is None:
            continue
        # Between the two calls another process may have taken it for a leftover.
        if folder.is_dir():
            return folder, lock
        os.close(lock)
    raise OSError(f"no folder in {parent} could be kept")


def _lock(folder: Path) -> int | None:
    """A descriptor that holds the folder until it is closed; None when somebody else does, or it is gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
