"""Finds a checkpoint and refuses, before torch is imported, what cannot or must not be loaded."""

from __future__ import annotations

import hashlib
import json
import re
import struct
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exporters.errors import ExportError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_ADDRESS = "https://huggingface.co"
_HUB_PROBE_S = 5
# Everything an export reads; never pickled weights.
_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*/config.json"]
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")
# A header larger than this is no header (the format's own limit).
_MAX_SAFETENSORS_HEADER_BYTES = 100_000_000


@dataclass(frozen=True)
class Source:
    """A checkpoint on this disk. gguf_file: its name in `directory`, for a GGUF; config: of a directory, else empty."""

    asked: str
    directory: Path
    gguf_file: str | None
    config: dict[str, Any]

    @property
    def files(self) -> list[Path]:
        """The files that the export depends on, in a fixed order."""
        if self.gguf_file:
            return [self.directory / self.gguf_file]
        kept = {".json", ".safetensors", ".model", ".txt", ".jinja"}
        return sorted(path for path in self.directory.rglob("*") if path.is_file() and path.suffix in kept)


def find_source(asked: str) -> Source:
    """The checkpoint that `asked` names: a directory, a .gguf file or a hub id."""
    path = Path(asked).expanduser()
    if path.is_dir():
        return _directory(asked, path.resolve())
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise ExportError(f"{asked} is a file but no .gguf: give the checkpoint's directory")
        _check_gguf(path)
        return Source(asked, path.resolve().parent, path.name, {})
    if not _HUB_ID.fullmatch(asked) or asked.lower().endswith(".gguf"):
        raise ExportError(f"no such file or directory: {asked}")
    return _directory(asked, _download(asked))


def source_hash(source: Source) -> str:
    """sha256 over names and contents of the checkpoint's files."""
    digest = hashlib.sha256()
    for path in source.files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.relative_to(source.directory)}\0{content}\n".encode())
    return digest.hexdigest()


def _directory(asked: str, directory: Path) -> Source:
    config_file = directory / "config.json"
    if not config_file.is_file():
        raise ExportError(f"{asked} is not a model directory: it has no config.json")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{config_file} is not valid JSON: {error}") from error
    if not isinstance(config, dict) or "model_type" not in config:
        raise ExportError(f"{config_file} names no model_type, so it is not a transformers checkpoint")
    weights = sorted(directory.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for path in directory.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise ExportError(
                f"{asked} has only pickled weights ({pickles[0]}), which can run code when loaded: "
                "convert them to safetensors"
            )
        raise ExportError(f"{asked} has no *.safetensors weights")
    for path in weights:
        _check_safetensors(path)
    _check_index(directory)
    return Source(asked, directory, None, config)


def _check_index(directory: Path) -> None:
    index = directory / "model.safetensors.index.json"
    if not index.is_file():
        return
    try:
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ExportError(f"{index} is not a safetensors index") from error
    outside = [name for name in shards if Path(str(name)).name != name]
    if outside:
        raise ExportError(f"{index} names weights outside of its folder")
    missing = [name for name in shards if not (directory / str(name)).is_file()]
    if missing:
        raise ExportError(f"{directory} lacks {missing[0]}, which its index names")


def _check_safetensors(path: Path) -> None:
    """The header must be there, and the file exactly as long as it says."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(size - 8, _MAX_SAFETENSORS_HEADER_BYTES):
            raise ExportError(f"{path} is truncated or no safetensors file")
        try:
            header = json.loads(file.read(length))
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise ExportError(f"{path} has a damaged safetensors header") from error
    expected = 8 + length + max(ends, default=0)
    if size != expected:
        raise ExportError(f"{path} is truncated: it has {size} bytes, its header says {expected}")


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ExportError(f"{path} is not a GGUF file")
    import gguf

    try:
        reader = gguf.GGUFReader(path)
        end = max((int(tensor.data_offset) + int(tensor.n_bytes) for tensor in reader.tensors), default=0)
    except Exception as error:  # the reader fails in as many ways as a file can be cut
        raise ExportError(f"{path} is truncated or damaged: {first_line(error)}") from error
    if end == 0 or end > path.stat().st_size:
        raise ExportError(f"{path} is truncated: its tensors end at byte {end}")


def _download(hub_id: str) -> Path:
    try:
        with urllib.request.urlopen(_HUB_ADDRESS, timeout=_HUB_PROBE_S):
            pass
    except (urllib.error.URLError, OSError) as error:
        raise ExportError(
            f"{hub_id} is no file or directory here, and the Hugging Face hub cannot be reached ({first_line(error)})"
        ) from error
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except Exception as error:  # the hub client raises dozens of types; each has a readable first line
        raise ExportError(f"the Hugging Face hub does not give {hub_id}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type when it has none."""
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
