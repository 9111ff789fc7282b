"""The output file of a bulk run, and the journal beside it from which an interrupted run goes on.

The journal says how many rows the first so many bytes of the output hold, and is replaced as a whole after those bytes
have reached the disk. So whatever a killed process, or a crash, left behind them is cut off, and nothing is lost or
written twice.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.cli import exit_codes
from services.cli.bulk.rows import Row

JOURNAL_SUFFIX = ".naiad-progress"
FORMAT_VERSION = 1
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Checkpoint:
    """What is done: rows, how many of them failed, bytes of the output, and digests of those rows and of its end."""

    rows: int = 0
    failed: int = 0
    output_bytes: int = 0
    rows_digest: str = ""
    tail_digest: str = ""


class RowsDigest:
    """Tells whether the rows that were read again are those of the run before."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, row: Row) -> None:
        """Takes in the next row."""
        self._hash.update(repr(sorted(row.cells.items())).encode(errors="surrogatepass"))

    def value(self) -> str:
        """The digest of all rows so far."""
        return self._hash.hexdigest()


class BulkOutput:
    """Appends lines; `commit` makes them last. To be used by one thread."""

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool) -> None:
        """Opens or creates `path`; `identity` must equal that of the run that is continued. Raises CommandError."""
        self.path = path
        self.journal = journal_of(path)
        self._identity = dict(identity)
        try:
            self._file = self._open(overwrite)
        except OSError as error:
            raise _wrong(f"--output: {path}: {error.strerror}") from error

    def _open(self, overwrite: bool) -> BinaryIO:
        self._is_new = not self.path.exists()
        found = None if overwrite else self._read_journal()
        if found is None and not overwrite and self.path.exists() and self.path.stat().st_size:
            raise _wrong(f"{self.path} exists and is no interrupted run; --overwrite replaces it")
        file = os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise _wrong(f"{self.path}: another run is writing it") from None
        self.resumed = found or Checkpoint()
        self._written_bytes = self.resumed.output_bytes
        self._committed_rows = self.resumed.rows
        if self._tail_digest(file, self._written_bytes) != self.resumed.tail_digest and found is not None:
            file.close()
            raise _wrong(f"{self.path} was changed since the interrupted run; --overwrite begins anew")
        if found is None:
            self._write_journal(self.resumed)  # before the first line: an output without it is not ours
        file.truncate(self._written_bytes)
        file.seek(self._written_bytes)
        return file

    def write(self, line: bytes) -> None:
        """Appends one line."""
        with self._failing_cleanly():
            self._file.write(line)
        self._written_bytes += len(line)

    def commit(self, rows: int, failed: int, rows_digest: str) -> None:
        """Makes everything written so far last: the results of `rows` rows."""
        if rows == self._committed_rows:
            return
        with self._failing_cleanly():
            self._file.flush()
            os.fsync(self._file.fileno())
            tail = self._tail_digest(self._file, self._written_bytes)
            self._write_journal(Checkpoint(rows, failed, self._written_bytes, rows_digest, tail))
            self._committed_rows = rows

    def finish(self) -> None:
        """Ends a run that is complete and committed."""
        self._file.close()
        self.journal.unlink()

    def close(self) -> None:
        """Ends a run that is to be continued, or leaves nothing behind if there is nothing to continue."""
        with contextlib.suppress(OSError):  # what is not committed does not count
            self._file.close()
        if not self._committed_rows:
            self.journal.unlink(missing_ok=True)
            if self._is_new:
                self.path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def _failing_cleanly(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a full disk, say: what was committed stays good
            raise exit_codes.CommandError(f"{self.path}: {error.strerror}") from error

    def _read_journal(self) -> Checkpoint | None:
        try:
            journal = json.loads(self.journal.read_text(encoding="utf-8"))
            identity, checkpoint = journal["identity"], Checkpoint(**journal["checkpoint"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise _wrong(f"{self.journal} cannot be read; --overwrite begins anew") from error
        if not checkpoint.rows:
            return checkpoint  # nothing that another run could not begin with
        for name, value in self._identity.items():
            if identity.get(name) != value:
                now = f"{name} was {identity.get(name)!r} and is {value!r} now"
                raise _wrong(f"{self.path} is a run with other settings: {now}; --overwrite begins anew")
        if not self.path.exists() and checkpoint.output_bytes:
            raise _wrong(f"{self.path} of the interrupted run is gone; --overwrite begins anew")
        return checkpoint

    def _write_journal(self, checkpoint: Checkpoint) -> None:
        fresh = self.journal.with_name(self.journal.name + ".new")
        with fresh.open("w", encoding="utf-8") as file:
            json.dump({"identity": self._identity, "checkpoint": dataclasses.asdict(checkpoint)}, file)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self.journal)
        folder = os.open(self.journal.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @staticmethod
    def _tail_digest(file: BinaryIO, end: int) -> str:
        """Digest of the last bytes before `end`; empty when there are none, another when the file is shorter."""
        if end == 0:
            return ""
        start = max(0, end - _TAIL_BYTES)
        tail = os.pread(file.fileno(), end - start, start)
        return hashlib.sha256(tail).hexdigest() if len(tail) == end - start else "shorter"


def journal_of(path: Path) -> Path:
    """Where the journal of an output file is."""
    return path.with_name(path.name + JOURNAL_SUFFIX)


def _wrong(message: str) -> exit_codes.CommandError:
    return exit_codes.CommandError(message, exit_codes.WRONG_USAGE)
