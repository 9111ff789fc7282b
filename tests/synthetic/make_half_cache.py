"""A graph with a decoder's inputs and outputs and a cache in half precision, whose content shows in its logits.

It has only operators that ONNX Runtime has for the CPU: it stands in for a model for a GPU in tests of what surrounds
the graph. Each run fills the first block of sequence 0 with the token t = input_ids[0] (keys of layer n: t + 10 n;
values: t + 10 n + 1), then reads the first block of the last sequence: the most probable token of row 2 n is what the
keys of layer n hold there, of row 2 n + 1 the values.
"""

from __future__ import annotations

import numpy as np
import onnx

from tests.synthetic.graph_builder import FLOAT, INT32, INT64, GraphBuilder

_FLOAT16 = onnx.TensorProto.FLOAT16
_NUM_LAYERS, _BLOCK_TOKENS, _NUM_KV_HEADS, _HEAD_SIZE, _VOCABULARY_SIZE = 2, 16, 2, 8, 64


def build_half_cache_graph() -> onnx.ModelProto:
    """The graph; see above."""
    g = GraphBuilder()
    ids = g.input("input_ids", INT64, ["tokens"])
    g.input("position_ids", INT64, ["tokens"])
    g.input("cu_seqlens", INT32, ["sequences_plus_1"])
    g.input("past_lens", INT32, ["sequences"])
    table = g.cast(g.input("block_table", INT32, ["sequences", "block_columns"]), INT64)
    rows = g.input("logit_rows", INT64, ["logit_rows"])
    token = g.cast(g.node("Gather", ids, g.constant(0, np.int64)), FLOAT)
    first_column = g.node("Gather", table, g.constant(0, np.int64), axis=1)
    written = g.node("Gather", first_column, g.constant([[0]], np.int64))
    read = g.node("Gather", first_column, g.constant([-1], np.int64))
    shape = [_BLOCK_TOKENS, _NUM_KV_HEADS, _HEAD_SIZE]
    contents = []
    for layer in range(_NUM_LAYERS):
        for index, kind in enumerate(("key", "value")):
            name = f"{kind}_cache"
            cache = g.input(f"{name}.{layer}", _FLOAT16, ["blocks", *shape])
            value = g.node("Add", token, g.constant(10 * layer + index, np.float32))
            block = g.cast(g.node("Expand", value, g.constant([1, *shape], np.int64)), _FLOAT16)
            out = g.node("ScatterND", cache, written, block, output=f"{name}_out.{layer}")
            g.output(out, _FLOAT16, ["blocks", *shape])
            held = g.cast(g.node("Gather", out, read), FLOAT)
            mean = g.node("ReduceMean", held, keepdims=0)
            contents.append(g.node("Unsqueeze", mean, g.constant([0], np.int64)))
    held_by_row = g.node("Gather", g.node("Concat", *contents, axis=0), rows)
    distance = g.node("Sub", g.constant(np.arange(_VOCABULARY_SIZE), np.float32), g.columns(held_by_row))
    g.node("Neg", g.node("Abs", distance), output="logits")
    g.output("logits", FLOAT, ["logit_rows", _VOCABULARY_SIZE])
    return g.model("half_cache")
