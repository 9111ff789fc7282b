"""The scan of one entry, and of a repository."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from services.common.model_scan import limits
from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.manifest_check import NAME, ListedFile, listed_files
from services.common.model_scan.onnx_graph import ExternalData, check_onnx
from services.common.model_scan.reading import names_in, open_file, open_folder
from services.common.model_scan.signature import PublicKey, check_signature
from services.common.model_scan.triton_config_check import check_triton_config

_SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class ScannedEntry:
    """An entry that passed. digest: over manifest and configuration, and so over every byte that is served."""

    name: str
    digest: str
    size_bytes: int
    signed: bool


def scan_repository(repository: Path, public_key: PublicKey | None = None) -> list[ScannedEntry]:
    """Scans every entry, in alphabetical order; names that start with a dot are staging folders and no entries.

    With `public_key` every entry must be signed with it. Raises ModelScanError for the first that does not pass.
    """
    return [scan_entry(repository / name, public_key) for name in entry_names(repository)]


def entry_names(repository: Path) -> list[str]:
    """Folders of the repository that are meant as entries. Raises ModelScanError when it cannot be listed."""
    with open_folder(repository.resolve(), str(repository)) as folder:
        names = names_in(folder)
    return [name for name in names if not name.startswith(".") and (repository / name).is_dir()]


def scan_entry(directory: Path, public_key: PublicKey | None = None, name: str | None = None) -> ScannedEntry:
    """Scans one entry; reads every byte of it once. Raises ModelScanError that names the file and the cause.

    `name`: the entry's, if its folder still has another. An error's file begins with it.
    """
    name = directory.name if name is None else name
    try:
        if not NAME.fullmatch(name):
            raise ModelScanError("", "its name is not letters, digits, _ and -")
        with (
            open_folder(directory, "") as folder,
            open_folder(limits.VERSION_FOLDER, limits.VERSION_FOLDER, folder) as version,
        ):
            return _EntryScan(name, folder, version).run(public_key)
    except ModelScanError as error:
        raise ModelScanError(f"{name}/{error.file}".rstrip("/"), error.cause) from None


class _EntryScan:
    """One scan; `folder` and `version` are descriptors, so that no link on the way can lead elsewhere."""

    def __init__(self, name: str, folder: int, version: int) -> None:
        self._name = name
        self._folders = {"": folder, limits.VERSION_FOLDER: version}

    def run(self, public_key: PublicKey | None) -> ScannedEntry:
        manifest = self._read(limits.MANIFEST, limits.MAX_MANIFEST_BYTES)
        config = self._read(limits.CONFIG, limits.MAX_CONFIG_BYTES)
        digest = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in (manifest, config)))
        if public_key is not None:
            signature = self._read(limits.SIGNATURE, limits.MAX_SIGNATURE_BYTES)
            check_signature(signature, manifest, config, self._name, public_key)
        files = listed_files(manifest, self._name)
        self._check_names({*limits.UNLISTED_FILES, *(file.path for file in files.values())})
        check_triton_config(config, self._name)
        data = files.get("graph_data")
        # The smaller files first: what is wrong with them is found before gigabytes of weights are read.
        for key in sorted(files, key=lambda key: files[key].size_bytes):
            self._check_file(key, files[key], data)
        size_bytes = len(manifest) + len(config) + sum(file.size_bytes for file in files.values())
        return ScannedEntry(self._name, digest.hexdigest(), size_bytes, public_key is not None)

    def _check_file(self, key: str, file: ListedFile, data: ListedFile | None) -> None:
        folder, _, name = file.path.rpartition("/")
        with open_file(name, file.path, file.limit_bytes, self._folders[folder]) as opened:
            if opened.size_bytes != file.size_bytes:
                raise ModelScanError(file.path, f"has {opened.size_bytes} bytes; the manifest says {file.size_bytes}")
            if key != "graph_data" and opened.read_at(0, 4).startswith(limits.PICKLE_STARTS):
                raise ModelScanError(file.path, "is a pickle, which can run code when it is loaded")
            if opened.sha256() != file.sha256:
                raise ModelScanError(file.path, "is not the file that the manifest names: its sha256 differs")
            if key == "graph":
                check_onnx(opened, ExternalData(data.path.rpartition("/")[2], data.size_bytes) if data else None)

    def _read(self, name: str, limit_bytes: int) -> bytes:
        with open_file(name, name, limit_bytes, self._folders[""]) as file:
            return file.read_all()

    def _check_names(self, expected: set[str]) -> None:
        """Refuses what nobody has listed: what is not checked must not be there."""
        for folder, descriptor in self._folders.items():
            for name in names_in(descriptor):
                path = f"{folder}/{name}" if folder else name
                if path not in expected and path != limits.VERSION_FOLDER:
                    raise ModelScanError(path[:_SHOWN_CHARACTERS], _unexpected(name))


def _unexpected(name: str) -> str:
    if name.lower().endswith(limits.PICKLE_SUFFIXES):
        return "is no part of an entry, and may be a pickle, which can run code when it is loaded"
    return "is no part of an entry: the manifest does not name it"
