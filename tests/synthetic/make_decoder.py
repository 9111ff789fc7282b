"""A tiny decoder whose next token is a closed form of its whole history.

Each layer turns the row x of tokens so far (layer 0: the token ids) into a new row

    x'[i] = (sum_{j<=i} w[j] * x[j] * (j mod 2 + 1)  +  3 * sum_{j<=i} ((x[j] + j) mod 7)  +  layer) mod vocabulary

with w[j] = 1 + 2 * (x[j] mod 2), and the last layer's row is the next token. The sums are averages that come from
naiad::PagedAttention: the first of KV head 0, weighted by the keys ln w; the second, and the sum of w, of KV head 1
with a query of zero. All numbers are small integers, so rounding makes them exact, and a wrong block, length, head or
neighbour shows as a wrong token. (That two full blocks of one sequence are swapped shows in no model: attention does
not know the order of its keys.)

With an 8-bit KV cache all stays as exact. Keys and queries have one element that is not zero. Each value holds 127, so
that its scale is 1 and its integers are their own codes. Weights are 1 and 1/3 of the largest, codes 255 and 85.

Usage: python -m tests.synthetic.make_decoder REPOSITORY [--name NAME]
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx

from tests.synthetic.graph_builder import FLOAT, INT32, INT64, UINT8, GraphBuilder, placement
from tests.synthetic.repository_entry import write_entry

# Sums above this would lose their last digit in float32.
_MAX_CONTEXT_TOKENS = 1024
_NUM_KV_HEADS = 2
_QUERY_HEADS_PER_KV_HEAD = 2
# The largest code of an 8-bit value, which makes its scale 1.
_UNIT_SCALE = 127.0
_ROW_SCALE_BYTES = 4


@dataclass(frozen=True)
class DecoderSpec:
    """Shape of a synthetic decoder. `eos_id` is an ordinary token that the formula yields now and then."""

    vocabulary_size: int = 64
    context_length_tokens: int = 512
    num_layers: int = 2
    head_size: int = 8
    kv_block_tokens: int = 16
    eos_id: int | None = 0
    kv_cache_type: Literal["float", "int8"] = "float"

    def __post_init__(self) -> None:
        if not 0 < self.context_length_tokens <= _MAX_CONTEXT_TOKENS:
            raise ValueError(f"context_length_tokens must be 1 to {_MAX_CONTEXT_TOKENS}")
        if not 8 <= self.vocabulary_size <= 64:
            raise ValueError("vocabulary_size must be 8 to 64")

    def cache_shape(self, num_blocks: int) -> tuple[int, int, int, int]:
        """Of one layer's keys or values."""
        row = self.head_size + _ROW_SCALE_BYTES if self.kv_cache_type == "int8" else self.head_size
        return (num_blocks, _NUM_KV_HEADS, self.kv_block_tokens, row)


def next_tokens(spec: DecoderSpec, history: Sequence[int]) -> npt.NDArray[np.int64]:
    """What the decoder says after each token of `history`: [len(history)]."""
    row = np.asarray(history, np.int64)
    positions = np.arange(len(row))
    for layer in range(spec.num_layers):
        weighted = np.cumsum((1 + 2 * (row % 2)) * row * (positions % 2 + 1))
        plain = np.cumsum((row + positions) % 7)
        row = (weighted + 3 * plain + layer) % spec.vocabulary_size
    return row


def expected_logits(spec: DecoderSpec, history: Sequence[int]) -> npt.NDArray[np.float32]:
    """The logits after each token of `history`, -0.5 * (token - next)^2: [len(history), vocabulary_size]."""
    distance = np.arange(spec.vocabulary_size) - next_tokens(spec, history)[:, None]
    return (-0.5 * distance**2).astype(np.float32)


def expected_tokens(spec: DecoderSpec, prompt: Sequence[int], max_tokens: int, ignore_eos: bool = False) -> list[int]:
    """The greedy continuation of `prompt`: at most `max_tokens`, up to and with the end-of-sequence token."""
    history = list(prompt)
    while len(history) < len(prompt) + max_tokens:
        history.append(int(next_tokens(spec, history)[-1]))
        if history[-1] == spec.eos_id and not ignore_eos:
            break
    return history[len(prompt) :]


def build_graph(spec: DecoderSpec) -> onnx.ModelProto:
    """The graph, with the inputs and outputs of docs/contracts.md section 2."""
    g = GraphBuilder()
    row = g.input("input_ids", INT64, ["tokens"])
    g.input("position_ids", INT64, ["tokens"])
    g.input("cu_seqlens", INT32, ["sequences_plus_1"])
    g.input("past_lens", INT32, ["sequences"])
    g.input("block_table", INT32, ["sequences", "block_columns"])
    g.input("logit_rows", INT64, ["logit_rows"])
    one = g.constant(1, np.int64)
    length = g.cast(g.node("Add", "position_ids", one), FLOAT)
    for layer in range(spec.num_layers):
        row = _add_layer(g, spec, layer, row, length)
    wanted = g.cast(g.node("Gather", row, "logit_rows", axis=0), FLOAT)
    ids = g.constant(np.arange(spec.vocabulary_size), np.float32)
    distance = g.node("Sub", ids, g.columns(wanted))
    square = g.node("Mul", distance, distance)
    g.node("Mul", square, g.constant(-0.5, np.float32), output="logits")
    g.output("logits", FLOAT, ["logit_rows", spec.vocabulary_size])
    for layer in range(spec.num_layers):
        for kind in ("key", "value"):
            g.output(f"{kind}_cache_out.{layer}", *_cache_type(spec))
    return g.model("synthetic_decoder")


def _cache_type(spec: DecoderSpec) -> tuple[int, list[int | str]]:
    return UINT8 if spec.kv_cache_type == "int8" else FLOAT, ["blocks", *spec.cache_shape(0)[1:]]


def _add_layer(g: GraphBuilder, spec: DecoderSpec, layer: int, row: str, length: str) -> str:
    """One layer on the row `row` (int64 [T]); returns the next row."""
    size = spec.head_size
    one, two, three, seven = (g.constant(n, np.int64) for n in (1, 2, 3, 7))
    weight = g.cast(g.node("Add", g.node("Mul", g.node("Mod", row, two), two), one), FLOAT)
    factor = g.node("Add", g.node("Mod", "position_ids", two), one)
    scaled = g.cast(g.node("Mul", row, factor), FLOAT)
    plain = g.cast(g.node("Mod", g.node("Add", row, "position_ids"), seven), FLOAT)
    ones = g.node("Div", weight, weight)
    unit = g.node("Mul", ones, g.constant(_UNIT_SCALE, np.float32))

    # Query heads 0 and 1 read KV head 0, heads 2 and 3 read KV head 1. Only heads 1 and 2 are used: the others get
    # queries that give other averages, so that a mixed-up head shows.
    query_row = np.zeros((1, _QUERY_HEADS_PER_KV_HEAD * _NUM_KV_HEADS * size), np.float32)
    query_row[0, [0, size, 3 * size]] = [-1.0, 1.0, 2.0]
    query = g.node("MatMul", g.columns(ones), g.constant(query_row, np.float32))
    key_places = placement(2, _NUM_KV_HEADS * size, [(0, 0), (1, size)])
    key = g.node("MatMul", g.columns(g.node("Log", weight), plain), g.constant(key_places, np.float32))
    value_ones = [(0, 0), (1, size), (2, 2 * size - 1), (3, 1), (3, size + 1)]
    value_places = placement(4, _NUM_KV_HEADS * size, value_ones)
    value = g.node("MatMul", g.columns(scaled, plain, weight, unit), g.constant(value_places, np.float32))

    caches = [g.input(f"{kind}_cache.{layer}", *_cache_type(spec)) for kind in ("key", "value")]
    attention = g.name()
    g.naiad_node(
        "PagedAttention",
        [query, key, value, *caches, "cu_seqlens", "past_lens", "block_table"],
        [attention, f"key_cache_out.{layer}", f"value_cache_out.{layer}"],
        num_heads=_QUERY_HEADS_PER_KV_HEAD * _NUM_KV_HEADS,
        kv_num_heads=_NUM_KV_HEADS,
        scale=1.0,
        softcap=0.0,
        local_window_size=-1,
    )
    sum_of_weights = g.node("Mul", g.column(attention, 3 * size - 1), length)
    weighted_sum = _to_integers(g, g.node("Mul", g.column(attention, size), sum_of_weights))
    plain_sum = _to_integers(g, g.node("Mul", g.column(attention, 2 * size), length))
    total = g.node("Add", weighted_sum, g.node("Mul", plain_sum, three))
    shifted = g.node("Add", total, g.constant(layer, np.int64))
    return g.node("Mod", shifted, g.constant(spec.vocabulary_size, np.int64))


def _to_integers(g: GraphBuilder, value: str) -> str:
    return g.cast(g.node("Round", value), INT64)


def make_decoder(
    repository: Path,
    name: str = "synthetic",
    spec: DecoderSpec | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Path:
    """Writes the model repository entry `repository/name` and returns it. `parameters` go into config.pbtxt."""
    spec = spec or DecoderSpec()
    eos_ids = [] if spec.eos_id is None else [spec.eos_id]
    manifest = {
        "name": name,
        "task": "generate",
        "architecture": "synthetic",
        "precision": "fp32",
        "limits": {"context_length_tokens": spec.context_length_tokens, "vocabulary_size": spec.vocabulary_size},
        "special_tokens": {"eos_ids": eos_ids} if eos_ids else {},
        "decoder": {
            "num_layers": spec.num_layers,
            "num_kv_heads": _NUM_KV_HEADS,
            "head_size": spec.head_size,
            "kv_block_tokens": spec.kv_block_tokens,
            **({} if spec.kv_cache_type == "float" else {"kv_cache_type": spec.kv_cache_type}),
        },
    }
    return write_entry(repository, manifest, build_graph(spec), eos_ids, parameters or {})


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a synthetic decoder into a model repository.")
    parser.add_argument("repository", type=Path)
    parser.add_argument("--name", default="synthetic")
    arguments = parser.parse_args()
    print(make_decoder(arguments.repository, arguments.name))


if __name__ == "__main__":
    main()
