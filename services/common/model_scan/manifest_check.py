"""The manifest as the scan needs it: whose it is, and which files it names with which hashes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.common.model_scan.errors import ModelScanError
from services.common.model_scan.limits import LISTED_FILES, MANIFEST, REQUIRED_FILES

FORMAT_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class ListedFile:
    """A file that the manifest names: path in the entry, sha256 in hexadecimal, size and its limit in bytes."""

    path: str
    sha256: str
    size_bytes: int
    limit_bytes: int


def listed_files(content: bytes, name: str) -> dict[str, ListedFile]:
    """`files` of the manifest of the entry `name`, by key. Raises ModelScanError."""
    manifest = _parse(content)
    if manifest.get("format_version") != FORMAT_VERSION:
        raise ModelScanError(MANIFEST, f"format_version is not {FORMAT_VERSION}")
    if manifest.get("name") != name:
        raise ModelScanError(MANIFEST, "names another model than its folder")
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise ModelScanError(MANIFEST, "files is no object")
    for key in files:
        if key not in LISTED_FILES:
            raise ModelScanError(MANIFEST, f"files has an unknown key; known are {', '.join(LISTED_FILES)}")
    for key in REQUIRED_FILES:
        if key not in files:
            raise ModelScanError(MANIFEST, f"files lacks {key}")
    return {key: _listed(key, value) for key, value in files.items()}


def _parse(content: bytes) -> Mapping[str, Any]:
    try:
        manifest = json.loads(content.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        # Readers differ in which of two equal keys they take: what was checked must be what is used.
        cause = "has a key twice" if isinstance(error, _TwiceError) else "is not valid JSON"
        raise ModelScanError(MANIFEST, cause) from None
    if not isinstance(manifest, dict):
        raise ModelScanError(MANIFEST, "is no JSON object")
    return manifest


class _TwiceError(ValueError):
    """A JSON object has a key twice."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise _TwiceError
    return unique


def _listed(key: str, value: object) -> ListedFile:
    path, limit_bytes = LISTED_FILES[key]
    if not isinstance(value, dict) or set(value) != {"path", "sha256", "size_bytes"}:
        raise ModelScanError(MANIFEST, f"files.{key} is not path, sha256 and size_bytes")
    sha256, size = value["sha256"], value["size_bytes"]
    if value["path"] != path:
        raise ModelScanError(MANIFEST, f"files.{key}.path is not {path}")
    if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
        raise ModelScanError(MANIFEST, f"files.{key}.sha256 is no sha256")
    if type(size) is not int or not 1 <= size <= limit_bytes:
        raise ModelScanError(MANIFEST, f"files.{key}.size_bytes is not 1 to {limit_bytes}")
    return ListedFile(path, sha256, size, limit_bytes)
