"""What an encoder checkpoint says about the use of its output: pooling, labels, activation, length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exporters.errors import ExportError
from exporters.options import EncoderTask

_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
}


def pooling(directory: Path) -> tuple[str, bool]:
    """Pooling and whether vectors are normalised, as sentence-transformers wrote them; mean and no when it did not."""
    modules = _read_json(directory / "modules.json")
    if not isinstance(modules, list):
        return "mean", False
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    unknown = sorted(set(kinds) - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise ExportError(f"{directory / 'modules.json'} has the module {unknown[0]}, which naiad does not apply")
    settings = _read_json(directory / kinds.get("Pooling", "1_Pooling") / "config.json") or {}
    chosen = [flag for flag, on in settings.items() if flag.startswith("pooling_mode_") and on is True]
    named = settings.get("pooling_mode")  # newer files name it
    if isinstance(named, str):
        chosen = [flag for flag, name in _POOLING_FLAGS.items() if name == named] or [named]
    if not chosen:
        return "mean", "Normalize" in kinds
    if len(chosen) > 1 or chosen[0] not in _POOLING_FLAGS:
        raise ExportError(f"{directory} pools with {' and '.join(chosen)}; naiad knows cls, mean or max alone")
    return _POOLING_FLAGS[chosen[0]], "Normalize" in kinds


def trained_length_tokens(directory: Path) -> int | None:
    """The longest text that sentence-transformers would not cut, if the checkpoint says so."""
    settings = _read_json(directory / "sentence_bert_config.json")
    length = settings.get("max_seq_length") if isinstance(settings, dict) else None
    return int(length) if isinstance(length, int) and length > 0 else None


def training_report(directory: Path) -> dict[str, Any]:
    """`training.json`, in which a fine-tuning recipe says how it trained and what it reached; else empty."""
    report = _read_json(directory / "training.json")
    return report if isinstance(report, dict) else {}


def labels(config: Any) -> list[str]:
    """Label names in the order of the logits."""
    return [str(config.id2label[index]) for index in range(config.num_labels)]


def activation(config: Any, task: EncoderTask) -> str:
    """What turns logits into scores: softmax over labels, a sigmoid each, or nothing for a regression or no logits."""
    if task == "embed":
        return "none"
    if task == "classify_tokens":  # A token has one label.
        return "softmax"
    if config.problem_type == "regression":
        return "none"
    if config.problem_type == "multi_label_classification" or config.num_labels == 1:
        return "sigmoid"
    return "softmax"


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ExportError(f"{path} is not valid JSON: {error}") from error
