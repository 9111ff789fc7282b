"""Writes what the C++ tests of core/ort need into a folder.

The synthetic decoder and encoders; `expected_tokens.txt` (a prompt, then its greedy continuation, one line each);
`half_cache.onnx`, a stand-in for a model for a GPU;
`greedy.onnx`, an encoder that asks for more memory than any machine has when its first token is 1;
`onnxruntime_library.txt`, the path of this environment's libonnxruntime.so.

Usage: python -m tests.synthetic.make_ort_test_models FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from tests.synthetic.graph_builder import FLOAT, INT32, INT64, GraphBuilder
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder
from tests.synthetic.make_half_cache import build_half_cache_graph


def build_greedy_graph() -> onnx.ModelProto:
    """An encoder of width 1 whose first step allocates 2^50 * input_ids[0] floats, and otherwise gives zeros."""
    g = GraphBuilder()
    ids = g.input("input_ids", INT64, ["tokens"])
    g.input("position_ids", INT64, ["tokens"])
    g.input("cu_seqlens", INT32, ["texts_plus_1"])
    first = g.node("Slice", ids, g.constant([0], np.int64), g.constant([1], np.int64))
    size = g.node("Mul", first, g.constant([2**50], np.int64))
    total = g.node("ReduceSum", g.node("ConstantOfShape", size), keepdims=0)
    zeros = g.node("Mul", g.cast(ids, FLOAT), total)
    g.node("Unsqueeze", zeros, g.constant([1], np.int64), output="last_hidden_state")
    g.output("last_hidden_state", FLOAT, ["tokens", 1])
    return g.model("greedy")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    make_decoder(folder, "decoder")
    make_decoder(folder, "decoder_int8", DecoderSpec(kv_cache_type="int8"))
    make_encoder(folder, "embed")
    make_encoder(folder, "classify", EncoderSpec(task="classify", uses_token_type_ids=False))
    make_encoder(folder, "classify_tokens", EncoderSpec(task="classify_tokens", uses_token_type_ids=False))
    (folder / "half_cache.onnx").write_bytes(build_half_cache_graph().SerializeToString())
    (folder / "greedy.onnx").write_bytes(build_greedy_graph().SerializeToString())
    prompt = [int(token) for token in np.random.default_rng(1).integers(0, 64, 40)]
    lines = [prompt, expected_tokens(DecoderSpec(), prompt, 60, ignore_eos=True)]
    (folder / "expected_tokens.txt").write_text("".join(" ".join(map(str, line)) + "\n" for line in lines))
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "onnxruntime_library.txt").write_text(f"{library}\n")


if __name__ == "__main__":
    main()
