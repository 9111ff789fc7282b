"""`naiad.json`: what an entry is, for the services and the backend (docs/contracts.md section 1)."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FORMAT_VERSION = 1
MANIFEST_FILE = "naiad.json"

_FILES = {
    "graph": "1/model.onnx",
    "graph_data": "1/model.onnx.data",
    "tokenizer": "tokenizer.json",
    "chat_template": "chat_template.jinja",
}


@dataclass(frozen=True)
class Manifest:
    """The manifest; None parts are left out of the file, the four reports at the end always stay.

    device: "cuda", or None for the CPU.
    """

    name: str
    task: str
    architecture: str
    precision: str
    limits: dict[str, int]
    special_tokens: dict[str, Any]
    device: str | None = None
    decoder: dict[str, Any] | None = None
    encoder: dict[str, Any] | None = None
    labels: list[str] | None = None
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    parity: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    source: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """The file's text."""
        content = {"format_version": FORMAT_VERSION, **asdict(self)}
        kept = {key: value for key, value in content.items() if value is not None}
        return json.dumps(kept, indent=2, ensure_ascii=False) + "\n"


def describe_files(entry: Path) -> dict[str, dict[str, Any]]:
    """`files` of the manifest: path, sha256 and size of each file that the entry has."""
    described = {}
    for key, relative in _FILES.items():
        path = entry / relative
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            described[key] = {"path": relative, "sha256": digest, "size_bytes": path.stat().st_size}
    return described


def read_manifest(entry: Path) -> dict[str, Any] | None:
    """The manifest of an entry, or None when there is none that can be read."""
    try:
        content = json.loads((entry / MANIFEST_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and content.get("format_version") == FORMAT_VERSION else None
