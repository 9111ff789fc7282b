"""Writes model repository entries (docs/contracts.md section 1) around synthetic graphs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx


def word_of(token_id: int) -> str:
    """The text of a token: its id after a "t"."""
    return f"t{token_id}"


def tokenizer_json(vocabulary_size: int, special_ids: Sequence[int]) -> str:
    """A tokenizer of words parted by spaces: "t3 t7" is [3, 7], an unknown word is 1."""
    added = [
        {"id": i, "content": word_of(i), "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}
        for i in special_ids
    ]  # fmt: skip
    return json.dumps(
        {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": added,
            "normalizer": None,
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "post_processor": None,
            "decoder": None,
            "model": {
                "type": "WordLevel",
                "vocab": {word_of(i): i for i in range(vocabulary_size)},
                "unk_token": word_of(1),
            },
        }
    )


def _tensor(name: str, data_type: str, rank: int, optional: bool = False) -> str:
    dims = ", ".join(["-1"] * rank)
    extra = " optional: true" if optional else ""
    return f'  {{ name: "{name}" data_type: {data_type} dims: [ {dims} ]{extra} }}'


_GENERATE_INPUTS = [
    _tensor("input_ids", "TYPE_INT32", 1, optional=True),
    _tensor("stop_token_ids", "TYPE_INT32", 1, optional=True),
    _tensor("logit_bias_ids", "TYPE_INT32", 1, optional=True),
    _tensor("logit_bias_values", "TYPE_FP32", 1, optional=True),
]
_GENERATE_OUTPUTS = [
    _tensor("output_ids", "TYPE_INT32", 1),
    _tensor("output_log_probs", "TYPE_FP32", 1),
    _tensor("top_log_prob_ids", "TYPE_INT32", 2),
    _tensor("top_log_prob_values", "TYPE_FP32", 2),
    _tensor("context_log_probs", "TYPE_FP32", 1),
    _tensor("context_top_ids", "TYPE_INT32", 2),
    _tensor("context_top_values", "TYPE_FP32", 2),
]
_ENCODER_INPUTS = [
    _tensor("input_ids", "TYPE_INT32", 1),
    _tensor("sequence_lengths", "TYPE_INT32", 1),
    _tensor("token_type_ids", "TYPE_INT32", 1, optional=True),
]
_ENCODER_OUTPUTS = {
    "embed": [_tensor("embeddings", "TYPE_FP32", 2), _tensor("hidden_states", "TYPE_FP32", 2)],
    "classify": [_tensor("logits", "TYPE_FP32", 2)],
    "classify_tokens": [_tensor("logits", "TYPE_FP32", 2)],
}


def triton_config(name: str, task: str, parameters: Mapping[str, str]) -> str:
    """The text of config.pbtxt."""
    generate = task == "generate"
    inputs = ",\n".join(_GENERATE_INPUTS if generate else _ENCODER_INPUTS)
    outputs = ",\n".join(_GENERATE_OUTPUTS if generate else _ENCODER_OUTPUTS[task])
    lines = [
        f'name: "{name}"',
        'backend: "naiad"',
        "max_batch_size: 0",
        f"input [\n{inputs}\n]",
        f"output [\n{outputs}\n]",
        "instance_group [ { count: 1 kind: KIND_CPU } ]",
    ]
    if generate:
        lines.append("model_transaction_policy { decoupled: true }")
    lines += [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}' for key, value in parameters.items()
    ]
    return "\n".join(lines) + "\n"


def write_entry(
    repository: Path,
    manifest: Mapping[str, Any],
    graph: onnx.ModelProto,
    special_ids: Sequence[int],
    parameters: Mapping[str, str],
) -> Path:
    """Writes `repository/NAME` and returns it. `manifest` lacks only `format_version`, `files` and `source`."""
    entry = repository / str(manifest["name"])
    (entry / "1").mkdir(parents=True, exist_ok=True)
    contents = {
        "graph": ("1/model.onnx", graph.SerializeToString()),
        "tokenizer": (
            "tokenizer.json",
            tokenizer_json(manifest["limits"]["vocabulary_size"], special_ids).encode(),
        ),
    }
    files = {}
    for key, (path, data) in contents.items():
        (entry / path).write_bytes(data)
        files[key] = {"path": path, "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    whole = {"format_version": 1, **manifest, "files": files, "source": {"kind": "synthetic"}}
    (entry / "naiad.json").write_text(json.dumps(whole, indent=2) + "\n")
    (entry / "config.pbtxt").write_text(triton_config(manifest["name"], manifest["task"], parameters))
    return entry
