"""Builds an entry in a staging folder and puts it into the repository in one step.

Whatever kills an export, the repository is as it was before: the entry appears by one rename, and a replaced entry is
swapped in the same way. Staging folders are locked by the process that fills them; one that nobody holds is a leftover.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporters.errors import ExportError

_PREFIX = ".staging-"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def refuse_existing(repository: Path, name: str, force: bool) -> None:
    """Raises when the entry is there and must not be replaced."""
    if (repository / name).exists() and not force:
        raise ExportError(f"{repository / name} exists already: give --force to replace it")


@contextmanager
def staging(repository: Path, name: str) -> Iterator[Path]:
    """A new folder for the entry, on the repository's file system; it is gone afterwards unless it was published."""
    try:
        repository.mkdir(parents=True, exist_ok=True)
        parent = _staging_parent(repository)
        _remove_leftovers(parent)
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{name}-", dir=parent))
    except OSError as error:
        raise ExportError(f"cannot write to {repository}: {error.strerror}") from error
    lock = _lock(folder)
    try:
        (folder / "1").mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def publish(folder: Path, repository: Path, name: str, force: bool) -> None:
    """Makes `folder` the entry `name`; with `force` an old entry is swapped out, to be removed with `folder`."""
    folder.chmod(0o755)  # mkdtemp makes it private, but the server may run as another user
    _sync_tree(folder)
    target = repository / name
    if target.exists() and force:
        _exchange(folder, target)
    else:
        try:
            folder.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                raise ExportError(f"{target} appeared meanwhile: give --force to replace it") from error
            raise
    _sync(repository)
    _sync(folder.parent)


def _staging_parent(repository: Path) -> Path:
    """Beside the repository, out of the server's sight, unless that is another file system or not ours to write."""
    parent = repository.resolve().parent
    if os.access(parent, os.W_OK) and parent.stat().st_dev == repository.stat().st_dev:
        return parent
    return repository


def _lock(folder: Path) -> int | None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        lock = _lock(folder)
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _exchange(first: Path, second: Path) -> None:
    """Swaps two folders; where the file system cannot do it in one step, in the fewest."""
    libc = ctypes.CDLL(None, use_errno=True)
    swapped = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0
    if swapped:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(second))
    aside = first.with_name(f"{first.name}.old")
    second.rename(aside)
    first.rename(second)
    shutil.rmtree(aside, ignore_errors=True)


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
