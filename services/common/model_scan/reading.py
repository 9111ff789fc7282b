"""Opens files of an entry so that no link can lead elsewhere, and reads them within bounds."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.model_scan.errors import ModelScanError

_CHUNK_BYTES = 1024 * 1024
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO would hold the scan up until somebody writes to it.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINK_ERRORS = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)


@contextmanager
def open_folder(path: str | Path, shown: str, parent: int | None = None) -> Iterator[int]:
    """A descriptor of the folder, which must not be a symbolic link. `shown` is its name in errors."""
    try:
        descriptor = os.open(path, _FOLDER_FLAGS, dir_fd=parent)
    except OSError as error:
        cause = "is a symbolic link or no folder" if error.errno in _LINK_ERRORS else f"cannot be read: {_text(error)}"
        raise ModelScanError(shown, cause) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class EntryFile:
    """An open regular file of an entry. Size in bytes, as it was when it was opened."""

    def __init__(self, descriptor: int, shown: str, size_bytes: int) -> None:
        self.descriptor = descriptor
        self.shown = shown
        self.size_bytes = size_bytes

    def read_all(self) -> bytes:
        """The whole content, of a file whose size has been bounded. Raises ModelScanError if it changed meanwhile."""
        content = self.read_at(0, self.size_bytes + 1)
        if len(content) != self.size_bytes:
            raise ModelScanError(self.shown, "changed while it was read")
        return content

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to `count` bytes from `offset`; fewer only at the end of the file."""
        pieces = []
        while count > 0:
            try:
                piece = os.pread(self.descriptor, min(count, _CHUNK_BYTES), offset)
            except OSError as error:
                raise ModelScanError(self.shown, f"cannot be read: {_text(error)}") from None
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            count -= len(piece)
        return b"".join(pieces)

    def sha256(self) -> str:
        """Of the content now, in hexadecimal. Raises ModelScanError when it is not as long as at the opening."""
        digest, offset = hashlib.sha256(), 0
        # One buffer for all: a fresh one each time would cost as much as the hashing.
        buffer = memoryview(bytearray(_CHUNK_BYTES))
        while offset <= self.size_bytes and (count := self._read_into(buffer, offset)):
            digest.update(buffer[:count])
            offset += count
        if offset != self.size_bytes:
            raise ModelScanError(self.shown, "changed while it was read")
        return digest.hexdigest()

    def _read_into(self, buffer: memoryview, offset: int) -> int:
        try:
            return os.preadv(self.descriptor, [buffer], offset)
        except OSError as error:
            raise ModelScanError(self.shown, f"cannot be read: {_text(error)}") from None


@contextmanager
def open_file(name: str | Path, shown: str, limit_bytes: int, parent: int | None = None) -> Iterator[EntryFile]:
    """A regular file of at most `limit_bytes`, not a symbolic link. `shown` is its name in errors."""
    try:
        descriptor = os.open(name, _FILE_FLAGS, dir_fd=parent)
    except FileNotFoundError:
        raise ModelScanError(shown, "is missing") from None
    except OSError as error:
        cause = "is a symbolic link" if error.errno in _LINK_ERRORS else f"cannot be read: {_text(error)}"
        raise ModelScanError(shown, cause) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelScanError(shown, "is no regular file")
        if status.st_size > limit_bytes:
            raise ModelScanError(shown, f"has {status.st_size} bytes; at most {limit_bytes} are allowed")
        yield EntryFile(descriptor, shown, status.st_size)
    finally:
        os.close(descriptor)


def names_in(folder: int) -> list[str]:
    """What a folder, given by its descriptor, contains, in alphabetical order."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


def read_hashed(path: Path, sha256: str, limit_bytes: int) -> bytes:
    """The content of a file that must have this hash: what is checked is what is returned. Raises ModelScanError."""
    with open_file(path, path.name, limit_bytes) as file:
        content = file.read_all()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelScanError(path.name, "is not the file that the manifest names: its sha256 differs")
    return content


def _text(error: OSError) -> str:
    return error.strerror or type(error).__name__
