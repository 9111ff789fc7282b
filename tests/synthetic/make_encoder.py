"""Tiny encoders whose answers have a closed form.

Token i of a text x (with token types y) gets the hidden vector

    [x[i], i, mean of x[j] + 100 * y[j] over the text, mean of j over the text's tokens with the parity of x[i]]

(both means come from naiad::PackedAttention). Its logits, for classify_tokens, are [mean, x[i], -mean]; those of a
text, for classify, are its first token's.

Usage: python -m tests.synthetic.make_encoder REPOSITORY [--name NAME] [--task embed|classify|classify_tokens]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from tests.synthetic.graph_builder import FLOAT, INT32, INT64, GraphBuilder, placement
from tests.synthetic.repository_entry import write_entry

LABELS = ("average", "first", "negated")
HIDDEN_SIZE = 4
_HEAD_SIZE = 8
_NUM_HEADS = 2


@dataclass(frozen=True)
class EncoderSpec:
    """Shape of a synthetic encoder; `task` is "embed", "classify" or "classify_tokens"."""

    task: str = "embed"
    vocabulary_size: int = 64
    context_length_tokens: int = 256
    uses_token_type_ids: bool = True


def expected_hidden(token_ids: Sequence[int], token_types: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
    """Hidden vectors of one text: [tokens, HIDDEN_SIZE]."""
    ids = np.asarray(token_ids)
    types = np.zeros_like(ids) if token_types is None else np.asarray(token_types)
    mean = np.full(len(ids), np.mean(ids + 100 * types))
    like = ids[:, None] % 2 == ids[None, :] % 2
    positions = np.arange(len(ids))
    return np.stack([ids, positions, mean, (like @ positions) / like.sum(axis=1)], axis=1).astype(np.float32)


def expected_token_logits(
    token_ids: Sequence[int], token_types: Sequence[int] | None = None
) -> npt.NDArray[np.float32]:
    """Logits of each token of one text: [tokens, len(LABELS)]."""
    hidden = expected_hidden(token_ids, token_types)
    return np.stack([hidden[:, 2], hidden[:, 0], -hidden[:, 2]], axis=1)


def expected_logits(token_ids: Sequence[int], token_types: Sequence[int] | None = None) -> npt.NDArray[np.float32]:
    """Logits of one text: [len(LABELS)]."""
    return expected_token_logits(token_ids, token_types)[0]


def build_graph(spec: EncoderSpec) -> onnx.ModelProto:
    """The graph, with the inputs and outputs of docs/contracts.md section 2."""
    g = GraphBuilder()
    ids = g.input("input_ids", INT64, ["tokens"])
    positions = g.cast(g.input("position_ids", INT64, ["tokens"]), FLOAT)
    tokens = g.cast(ids, FLOAT)
    mixed = tokens
    if spec.uses_token_type_ids:
        types = g.cast(g.input("token_type_ids", INT64, ["tokens"]), FLOAT)
        mixed = g.node("Add", tokens, g.node("Mul", types, g.constant(100.0, np.float32)))
    g.input("cu_seqlens", INT32, ["texts_plus_1"])
    hidden = g.columns(tokens, positions, *_add_attention(g, ids, positions, mixed))
    if spec.task == "embed":
        g.node("Identity", hidden, output="last_hidden_state")
        g.output("last_hidden_state", FLOAT, ["tokens", HIDDEN_SIZE])
        return g.model("synthetic_encoder")
    head = np.zeros((HIDDEN_SIZE, len(LABELS)), np.float32)
    head[2, 0], head[0, 1], head[2, 2] = 1.0, 1.0, -1.0
    rows, row_count = hidden, "tokens"
    if spec.task == "classify":
        starts = g.node("Slice", "cu_seqlens", g.constant([0], np.int64), g.constant([-1], np.int64))
        rows, row_count = g.node("Gather", hidden, starts, axis=0), "texts"
    g.node("MatMul", rows, g.constant(head, np.float32), output="logits")
    g.output("logits", FLOAT, [row_count, len(LABELS)])
    return g.model("synthetic_encoder")


def _add_attention(g: GraphBuilder, ids: str, positions: str, mixed: str) -> tuple[str, str]:
    """The mean of `mixed` over the text, and of `positions` over the tokens of the same parity: both [T]."""
    odd = g.cast(g.node("Mod", ids, g.constant(2, np.int64)), FLOAT)
    even = g.node("Sub", g.constant(1.0, np.float32), odd)
    width = _NUM_HEADS * _HEAD_SIZE
    # Head 0 has keys of zero: a plain mean. In head 1 like scores 50 with like and 0 with others: no weight.
    key_places = placement(2, width, [(0, _HEAD_SIZE), (1, _HEAD_SIZE + 1)])
    key = g.node("MatMul", g.columns(odd, even), g.constant(key_places, np.float32))
    value_places = placement(2, width, [(0, 0), (1, _HEAD_SIZE)])
    value = g.node("MatMul", g.columns(mixed, positions), g.constant(value_places, np.float32))
    attention = g.name()
    heads = {"num_heads": _NUM_HEADS, "kv_num_heads": _NUM_HEADS}
    g.naiad_node(
        "PackedAttention", [key, key, value, "cu_seqlens"], [attention], **heads, scale=50.0, local_window_size=-1
    )
    return g.column(attention, 0), g.column(attention, _HEAD_SIZE)


def make_encoder(
    repository: Path,
    name: str = "synthetic_encoder",
    spec: EncoderSpec | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Path:
    """Writes the model repository entry `repository/name` and returns it. `parameters` go into config.pbtxt."""
    spec = spec or EncoderSpec()
    manifest = {
        "name": name,
        "task": spec.task,
        "architecture": "synthetic",
        "precision": "fp32",
        "limits": {"context_length_tokens": spec.context_length_tokens, "vocabulary_size": spec.vocabulary_size},
        "special_tokens": {},
        "encoder": {
            "hidden_size": HIDDEN_SIZE,
            "pooling": "mean",
            "normalize": False,
            "uses_token_type_ids": spec.uses_token_type_ids,
            "activation": "none",
        },
        **({} if spec.task == "embed" else {"labels": list(LABELS)}),
    }
    return write_entry(repository, manifest, build_graph(spec), [], parameters or {})


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic encoder into a model repository.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--name", default="synthetic_encoder")
    parser.add_argument("--task", choices=["embed", "classify", "classify_tokens"], default="embed")
    arguments = parser.parse_args()
    print(make_encoder(arguments.repository, arguments.name, EncoderSpec(task=arguments.task)))


if __name__ == "__main__":
    main()
