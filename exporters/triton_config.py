"""Writes Triton's model configuration, `config.pbtxt` (docs/contracts.md sections 1 and 3)."""

from __future__ import annotations

from collections.abc import Mapping

from exporters.options import Device, Task

# Tensors of docs/contracts.md section 3: (name, Triton type, dims, optional).
_GENERATE_INPUTS = (
    ("input_ids", "TYPE_INT32", [-1], True),
    ("stop_token_ids", "TYPE_INT32", [-1], True),
    ("logit_bias_ids", "TYPE_INT32", [-1], True),
    ("logit_bias_values", "TYPE_FP32", [-1], True),
)
_GENERATE_OUTPUTS = (
    ("output_ids", "TYPE_INT32", [-1]),
    ("output_log_probs", "TYPE_FP32", [-1]),
    ("top_log_prob_ids", "TYPE_INT32", [-1, -1]),
    ("top_log_prob_values", "TYPE_FP32", [-1, -1]),
    ("context_log_probs", "TYPE_FP32", [-1]),
    ("context_top_ids", "TYPE_INT32", [-1, -1]),
    ("context_top_values", "TYPE_FP32", [-1, -1]),
)
_ENCODER_INPUTS = (
    ("input_ids", "TYPE_INT32", [-1], False),
    ("sequence_lengths", "TYPE_INT32", [-1], False),
    ("token_type_ids", "TYPE_INT32", [-1], True),
)


# One engine a model; of several GPUs Triton would make an instance each, so one is named.
_INSTANCE_GROUPS: dict[Device, str] = {
    "cpu": "instance_group [ { count: 1, kind: KIND_CPU } ]",
    "cuda": "instance_group [ { count: 1, kind: KIND_GPU, gpus: [ 0 ] } ]",
}


def triton_config(
    name: str, task: Task, output_width: int, parameters: Mapping[str, str], device: Device = "cpu"
) -> str:
    """The file's text. output_width: hidden size for embed, or number of labels; unused for generate."""
    inputs: tuple[tuple[str, str, list[int], bool], ...] = _ENCODER_INPUTS
    outputs: tuple[tuple[str, str, list[int]], ...]
    if task == "generate":
        inputs, outputs = _GENERATE_INPUTS, _GENERATE_OUTPUTS
    elif task == "embed":
        outputs = (
            ("embeddings", "TYPE_FP32", [-1, output_width]),
            ("hidden_states", "TYPE_FP32", [-1, output_width]),
        )
    else:
        outputs = (("logits", "TYPE_FP32", [-1, output_width]),)
    blocks = [
        f'name: "{name}"',
        'backend: "naiad"',
        "max_batch_size: 0",
        _list("input", [_tensor(tensor, kind, dims, optional) for tensor, kind, dims, optional in inputs]),
        _list("output", [_tensor(tensor, kind, dims, False) for tensor, kind, dims in outputs]),
        _INSTANCE_GROUPS[device],
    ]
    if task == "generate":
        blocks.insert(3, "model_transaction_policy { decoupled: true }")
    blocks += [
        f'parameters {{ key: "{key}" value: {{ string_value: "{value}" }} }}'
        for key, value in sorted(parameters.items())
    ]
    return "\n".join(blocks) + "\n"


def _list(name: str, tensors: list[str]) -> str:
    return f"{name} [\n" + ",\n".join(f"  {tensor}" for tensor in tensors) + "\n]"


def _tensor(name: str, kind: str, dims: list[int], optional: bool) -> str:
    sizes = ", ".join(str(size) for size in dims)
    return f'{{ name: "{name}", data_type: {kind}, dims: [ {sizes} ]{", optional: true" if optional else ""} }}'
