"""What Triton and the services see: not the repository, but links to a state of it that has been scanned.

A state is a folder of hard links, so that it takes no room and stays whole while the repository changes. `current`, a
symbolic link beside the states, says which one is served. A new state is linked first and scanned then: what was
scanned is what is served, whatever happens to the repository in between. docs/decisions/0007-model-changes.md has the
reasons.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.locked_folder import beside, locked_folder
from services.common.model_scan import ModelScanError, ScannedEntry, scan_repository
from services.common.model_scan.entry import entry_names
from services.common.model_scan.limits import VERSION_FOLDER
from services.common.model_scan.signature import PublicKey

_PREFIX = ".serving-"
_CURRENT = "current"
_MAX_FILES = 32
# Another file system, a read-only one, another user's files, or a file system without hard links.
_NO_LINKS = (errno.EXDEV, errno.EROFS, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EMLINK)


@dataclass(frozen=True)
class State:
    """Entries of the repository at one moment; they passed the scan."""

    folder: Path
    entries: tuple[ScannedEntry, ...]

    def changes(self, newer: State) -> list[str]:
        """What is different in `newer`: "+NAME" is new, "-NAME" is gone, "~NAME" has changed."""
        old = {entry.name: entry.digest for entry in self.entries}
        new = {entry.name: entry.digest for entry in newer.entries}
        changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
        signs = [(name, "~") for name in changed]
        signs += [(name, "+") for name in new.keys() - old.keys()] + [(name, "-") for name in old.keys() - new.keys()]
        return [f"{sign}{name}" for name, sign in sorted(signs)]


class ServedModels:
    """The states. Made by `serve_models`; methods read and hash files, so that they belong into a thread."""

    def __init__(self, repository: Path, folder: Path | None, public_key: PublicKey | None) -> None:
        """`folder`: where the links are, None to serve the repository itself."""
        self._repository = repository
        self._folder = folder
        self._public_key = public_key
        self._number = 0
        self._state: State | None = None

    @property
    def path(self) -> Path:
        """The model repository for Triton and the services; always the same path."""
        return self._repository if self._folder is None else self._folder / _CURRENT

    @property
    def in_place(self) -> bool:
        """Whether the repository itself is served, because links to its files cannot be made."""
        return self._folder is None

    @property
    def state(self) -> State:
        """What is served now."""
        if self._state is None:
            raise RuntimeError("no state has been chosen yet")
        return self._state

    def stage(self) -> State:
        """Links and scans the repository as it is now. Raises ModelScanError, which leaves everything as it was."""
        if self._folder is None:
            return State(self._repository, tuple(self._scan(self._repository)))
        self._number += 1
        folder = self._folder / str(self._number)
        try:
            folder.mkdir()
            for name in entry_names(self._repository):
                _link_entry(self._repository / name, folder / name)
            return State(folder, tuple(self._scan(folder)))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def switch(self, state: State) -> None:
        """Makes `state` the one that is served, in one step."""
        if self._folder is not None:
            link = self._folder / f"{_CURRENT}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(state.folder.name)
            link.rename(self._folder / _CURRENT)
        self._state = state

    def discard(self, state: State) -> None:
        """Forgets a state that is not served."""
        if self._folder is not None and state is not self._state:
            shutil.rmtree(state.folder, ignore_errors=True)

    def _scan(self, folder: Path) -> list[ScannedEntry]:
        if self._folder is None:
            _refuse_hidden(folder)
        entries = scan_repository(folder, self._public_key)
        if not entries:
            raise ModelScanError(str(self._repository), "there is no model in it")
        return entries


@contextmanager
def serve_models(repository: Path, public_key: PublicKey | None) -> Iterator[ServedModels]:
    """The models of the repository, scanned, for as long as they are served. Raises ModelScanError, OSError."""
    with ExitStack() as resources:
        try:
            folder = resources.enter_context(locked_folder(beside(repository), _PREFIX))
            models = ServedModels(repository, folder, public_key)
            models.switch(models.stage())
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            resources.close()
            models = ServedModels(repository, None, public_key)
            models.switch(models.stage())
        yield models


def _refuse_hidden(repository: Path) -> None:
    """Triton loads folders that start with a dot, too, and the scan takes them for staging folders."""
    for item in sorted(repository.glob(".*")):
        if item.is_dir():
            raise ModelScanError(item.name, "is a folder that Triton would load, and no entry")


def _link_entry(source: Path, target: Path) -> None:
    """Links files as they are, symbolic links as symbolic links: the scan then judges them."""
    if source.is_symlink():
        raise ModelScanError(source.name, "is a symbolic link or no folder")
    target.mkdir()
    count = 0
    for folder in ("", VERSION_FOLDER):
        if folder and (not (source / folder).is_dir() or (source / folder).is_symlink()):
            raise ModelScanError(f"{source.name}/{folder}", "is a symbolic link or no folder")
        (target / folder).mkdir(exist_ok=True)
        with os.scandir(source / folder) as items:
            for item in items:
                count += 1
                if count > _MAX_FILES:
                    raise ModelScanError(source.name, f"has more than {_MAX_FILES} files")
                if not item.is_dir(follow_symlinks=False):
                    _link(Path(item.path), target / folder / item.name)
                elif folder or item.name != VERSION_FOLDER:
                    raise ModelScanError(f"{source.name}/{item.name}", "is no part of an entry")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except FileNotFoundError:
        raise ModelScanError(f"{source.parent.name}/{source.name}", "vanished while it was read") from None
