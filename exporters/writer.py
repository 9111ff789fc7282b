"""Builds an entry in a staging folder and puts it into the repository in one step.

Whatever kills an export, the repository is as it was before: the entry appears by one rename, and a replaced entry is
swapped in the same way. Staging folders are locked by the process that fills them; one that nobody holds is a leftover.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporters.errors import ExportError
from services.common.locked_folder import beside, locked_folder

_PREFIX = ".staging-"
_ASIDE_PREFIX = ".replaced-"
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO)
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def refuse_existing(repository: Path, name: str, force: bool) -> None:
    """Raises when the entry is there and must not be replaced."""
    if (repository / name).exists() and not force:
        raise ExportError(f"{repository / name} exists already: give --force to replace it")


@contextmanager
def staging(repository: Path, name: str) -> Iterator[Path]:
    """A new folder for the entry, on the repository's file system; it is gone afterwards unless it was published.

    Raises ExportError when there is no room, or no permission, to write, there or in the body.
    """
    try:
        repository.mkdir(parents=True, exist_ok=True)
        _finish_swaps(repository)
        with locked_folder(beside(repository), _PREFIX, f"{name}-") as folder:
            (folder / "1").mkdir()
            yield folder
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        where = error.filename or repository
        raise ExportError(f"cannot write to {where}: {error.strerror}; the repository is as it was") from error


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


def _exchange(first: Path, second: Path) -> None:
    """Swaps two folders; where the file system cannot do it in one step, in the fewest."""
    libc = ctypes.CDLL(None, use_errno=True)
    swapped = libc.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE) == 0
    if swapped:
        return
    code = ctypes.get_errno()
    if code not in (errno.EINVAL, errno.ENOSYS, errno.EXDEV, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(second))
    # Somebody who is killed between the next two lines leaves no entry, but `_finish_swaps` finds the old one.
    aside = beside(second.parent) / f"{_ASIDE_PREFIX}{second.name}"
    second.rename(aside)
    first.rename(second)
    shutil.rmtree(aside, ignore_errors=True)


def _finish_swaps(repository: Path) -> None:
    """Puts back entries of which a swap in two steps was interrupted after the first."""
    for aside in beside(repository).glob(f"{_ASIDE_PREFIX}*"):
        entry = repository / aside.name.removeprefix(_ASIDE_PREFIX)
        if entry.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(entry)


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
