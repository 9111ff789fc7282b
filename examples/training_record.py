"""What a checkpoint was trained from and how good it is: `training.json`, and the folder that it describes."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.labelled_texts import DataError, Dataset, LabelledText, Split, majority_share

RECIPE_VERSION = 1  # counts changes of the recipe that change the trained weights: older outputs are then not current
FORMAT_VERSION = 1
RECORD_NAME = "training.json"
WEIGHTS_NAME = "model.safetensors"


@dataclasses.dataclass(frozen=True)
class TrainingOptions:
    """What changes the trained weights, besides the data and the base model."""

    seed: int
    epochs: int
    learning_rate: float
    batch_size: int
    max_length_tokens: int
    trained_layers: int | None
    """How many of the topmost encoder layers are trained, with the embeddings left as they are; None: everything is."""


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """Accuracies are shares from 0 to 1. The seconds cover loading the base, training, measuring and saving."""

    held_out_accuracy: float
    accuracy_by_label: dict[str, float]
    wall_seconds: float
    cpu_seconds: float


@dataclasses.dataclass(frozen=True)
class TrainingInputs:
    """Everything that the outcome follows from. `dataset_columns` are those of a table: text, label."""

    base: str
    dataset_sha256: str
    dataset_columns: tuple[str, str] | None
    held_out_share: float
    options: TrainingOptions

    def sha256(self) -> str:
        """A fingerprint by which an output is known to be current."""
        inputs = dataclasses.asdict(self) | {"base": _base_fingerprint(self.base), "recipe_version": RECIPE_VERSION}
        return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def make_record(inputs: TrainingInputs, dataset: Dataset, split: Split, result: TrainingResult) -> dict[str, Any]:
    """The content of `training.json`, except for what depends on the finished folder."""
    return base_facts(inputs) | {
        "dataset": {
            "name": dataset.name,
            "sha256": dataset.sha256,
            "texts": len(dataset.texts),
            "left_out": dict(dataset.left_out),
        },
        "split": {
            "held_out_share": inputs.held_out_share,
            "train_texts": _count_by_label(split.train),
            "held_out_texts": _count_by_label(split.held_out),
        },
        "held_out_accuracy": round(result.held_out_accuracy, 4),
        "held_out_accuracy_by_label": {label: round(share, 4) for label, share in result.accuracy_by_label.items()},
        "majority_baseline_accuracy": round(majority_share(split.held_out), 4),
        "wall_seconds": round(result.wall_seconds, 1),
        "cpu_seconds": round(result.cpu_seconds, 1),
    }


def base_facts(inputs: TrainingInputs) -> dict[str, Any]:
    """What every record says, whatever was trained."""
    return {
        "format_version": FORMAT_VERSION,
        "base": base_name(inputs.base),
        **dataclasses.asdict(inputs.options),
        "versions": {package: importlib.metadata.version(package) for package in ("torch", "transformers")},
        "inputs_sha256": inputs.sha256(),
    }


def read_current_record(output: Path, inputs_sha256: str) -> dict[str, Any] | None:
    """The record in `output` if that folder is whole and came from these inputs, else None."""
    try:
        record: dict[str, Any] = json.loads((output / RECORD_NAME).read_text(encoding="utf-8"))
        weights_sha256 = _file_sha256(output / WEIGHTS_NAME)
    except (OSError, ValueError):
        return None
    expected = {"format_version": FORMAT_VERSION, "inputs_sha256": inputs_sha256, "weights_sha256": weights_sha256}
    return record if expected.items() <= record.items() else None


@contextmanager
def replacing(output: Path) -> Iterator[Path]:
    """A fresh folder that takes the place of `output` at the end; after an exception `output` is as it was.

    Raises:
        DataError: `output` is something that this recipe did not write, or cannot be written.
    """
    if output.exists() and not (output.is_dir() and ((output / RECORD_NAME).is_file() or not any(output.iterdir()))):
        raise DataError(f"{output}: is there already and holds no {RECORD_NAME}; choose another --output")
    staging = output.with_name(output.name + ".partial")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        shutil.rmtree(output, ignore_errors=True)
        staging.rename(output)
    except OSError as error:
        raise DataError(f"{output}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Adds the fingerprint of the weights in `folder` to the record and writes it there."""
    complete = record | {"weights_sha256": _file_sha256(folder / WEIGHTS_NAME)}
    (folder / RECORD_NAME).write_text(json.dumps(complete, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def base_name(base: str) -> str:
    """The base for people: a folder's name without the path to it, which is nobody else's business."""
    path = Path(base)
    if not path.is_dir():
        return base
    return path.parent.name if path.name == "model" else path.name


def _base_fingerprint(base: str) -> str:
    path = Path(base)
    if not path.is_dir():
        return base
    digest = hashlib.sha256()
    for file in sorted(path.iterdir()):
        if file.suffix in {".json", ".safetensors", ".txt", ".model"}:
            digest.update(f"{file.name} {_file_sha256(file)}\n".encode())
    return digest.hexdigest()


def _count_by_label(texts: tuple[LabelledText, ...]) -> dict[str, int]:
    return dict(sorted(Counter(item.label for item in texts).items()))


def _file_sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
