"""Models in the repository, read from their `naiad.json` manifests (docs/contracts.md, section 1)."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from services.common.errors import NaiadError, Reason

FORMAT_VERSION = 1
MANIFEST_NAME = "naiad.json"
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
RESCAN_INTERVAL_S = 1.0

_log = logging.getLogger(__name__)


class Task(StrEnum):
    """What a model is for."""

    GENERATE = "generate"
    EMBED = "embed"
    CLASSIFY = "classify"
    CLASSIFY_TOKENS = "classify_tokens"


class ManifestError(ValueError):
    """A manifest cannot be used. The message is one line."""


@dataclass(frozen=True)
class ModelEntry:
    """One model. `hidden_size` is 0 and the encoder fields are empty for decoders; `labels` only for classifiers.

    Hashes are those that the manifest gives: the files are checked against them when they are read.
    """

    name: str
    directory: Path
    task: Task
    architecture: str
    precision: str
    context_length_tokens: int
    vocabulary_size: int
    tokenizer_path: Path
    tokenizer_sha256: str
    chat_template_path: Path | None
    chat_template_sha256: str = ""
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    hidden_size: int = 0
    pooling: str = ""
    normalize: bool = False
    uses_token_type_ids: bool = False
    activation: str = ""
    labels: tuple[str, ...] = ()


def load_entry(directory: Path) -> ModelEntry:
    """Reads one manifest. Raises ManifestError."""
    path = directory / MANIFEST_NAME
    try:
        if path.stat().st_size > MAX_MANIFEST_BYTES:
            raise ManifestError(f"{path} is larger than {MAX_MANIFEST_BYTES} bytes")
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error
    try:
        return _entry(directory, manifest)
    except ManifestError:
        raise
    except KeyError as error:
        raise ManifestError(f"{path} lacks {error}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise ManifestError(f"{path} has a value of the wrong kind: {error}") from None


def _entry(directory: Path, manifest: Mapping[str, Any]) -> ModelEntry:
    if manifest["format_version"] != FORMAT_VERSION:
        raise ManifestError(f"{directory.name}: format_version {manifest['format_version']!r} is not {FORMAT_VERSION}")
    if manifest["name"] != directory.name:
        raise ManifestError(f"{directory.name}: the manifest names another model, {manifest['name']!r}")
    limits, special, files = manifest["limits"], manifest.get("special_tokens", {}), manifest["files"]
    encoder = manifest.get("encoder", {})
    template = files.get("chat_template")
    return ModelEntry(
        name=manifest["name"],
        directory=directory,
        task=Task(manifest["task"]),
        architecture=str(manifest["architecture"]),
        precision=str(manifest["precision"]),
        context_length_tokens=_positive(limits, "context_length_tokens"),
        vocabulary_size=_positive(limits, "vocabulary_size"),
        tokenizer_path=_contained(directory, files["tokenizer"]["path"]),
        tokenizer_sha256=str(files["tokenizer"]["sha256"]),
        chat_template_path=_contained(directory, template["path"]) if template else None,
        chat_template_sha256=str(template["sha256"]) if template else "",
        bos_id=special.get("bos_id"),
        eos_ids=tuple(int(token) for token in special.get("eos_ids", ())),
        pad_id=special.get("pad_id"),
        hidden_size=int(encoder.get("hidden_size", 0)),
        pooling=str(encoder.get("pooling", "")),
        normalize=bool(encoder.get("normalize", False)),
        uses_token_type_ids=bool(encoder.get("uses_token_type_ids", False)),
        activation=str(encoder.get("activation", "")),
        labels=tuple(str(label) for label in manifest.get("labels", ())),
    )


def _positive(values: Mapping[str, Any], key: str) -> int:
    value = values[key]
    if not isinstance(value, int) or value < 1:
        raise ManifestError(f"{key} is {value!r}, not a positive number")
    return value


def _contained(directory: Path, relative: str) -> Path:
    """The file inside the entry; symlinks that leave it are refused like `..`.

    Not resolved: the repository may be a link that is turned to the next state of the models.
    """
    path = directory / relative
    if not path.resolve().is_relative_to(directory.resolve()):
        raise ManifestError(f"{directory.name}: {relative!r} lies outside the entry")
    if not path.is_file():
        raise ManifestError(f"{directory.name}: {relative!r} is missing")
    return path


_Signature = tuple[tuple[str, int, int], ...]


class ModelRegistry:
    """Entries of one repository. Looks at the file system at most once a second, and only when asked."""

    def __init__(self, repository: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._checked_at_s = float("-inf")
        self._signature: _Signature | None = None
        self._entries: Mapping[str, ModelEntry] = MappingProxyType({})

    def entries(self) -> Mapping[str, ModelEntry]:
        """Name -> entry, in alphabetical order. A corrupt entry is logged and left out."""
        now_s = self._clock()
        if now_s - self._checked_at_s >= RESCAN_INTERVAL_S:
            self._checked_at_s = now_s
            signature = self._scan()
            if signature != self._signature:
                self._signature = signature
                self._entries = self._load(signature)
        return self._entries

    def has(self, name: str) -> bool:
        """Whether there is an entry called `name`."""
        return name in self.entries()

    def get(self, name: str, *tasks: Task) -> ModelEntry:
        """The entry called `name`. Raises MODEL_NOT_FOUND, or WRONG_TASK when its task is none of `tasks`."""
        entry = self.entries().get(name)
        if entry is None:
            raise NaiadError(Reason.MODEL_NOT_FOUND, f"model: there is no model {name[:100]!r}")
        if tasks and entry.task not in tasks:
            wanted = " or ".join(task.value for task in tasks)
            raise NaiadError(Reason.WRONG_TASK, f"model: {name!r} is for {entry.task.value}, not for {wanted}")
        return entry

    def with_task(self, *tasks: Task) -> list[ModelEntry]:
        """Entries whose task is one of `tasks`, in alphabetical order."""
        return [entry for entry in self.entries().values() if entry.task in tasks]

    def _scan(self) -> _Signature:
        found = []
        try:
            for manifest in self._repository.glob(f"*/{MANIFEST_NAME}"):
                if not manifest.parent.name.startswith("."):
                    stat = manifest.stat()
                    found.append((manifest.parent.name, stat.st_mtime_ns, stat.st_size))
        except OSError as error:
            # As without descriptors: that nothing can be read does not mean that the models are gone.
            _log.warning("model repository %s cannot be read: %s", self._repository, error)
            return self._signature or ()
        return tuple(sorted(found))

    def _load(self, signature: _Signature) -> Mapping[str, ModelEntry]:
        entries: dict[str, ModelEntry] = {}
        for name, _, _ in signature:
            try:
                entries[name] = load_entry(self._repository / name)
            except ManifestError as error:
                _log.error("model left out: %s", error)
        return MappingProxyType(entries)
