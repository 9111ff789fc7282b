"""Times the products of the `chat` model in naiad::Linear and in ONNX Runtime's own kernels, side by side.

    python -m benchmarks.linear_products [--threads N] [--rounds N]

For each product and number of rows, one row: microseconds of MatMul in float32, of MatMulNBits with 4 and 8 bits (8-bit
activations) and of naiad::Linear with 4 and 8 bits. Each graph has several products with weights of their own, more
than the caches hold, as a model has; the graphs take turns, and the best round of each counts. What share of the
machine's limits the kernel reaches is what build/core/benchmarks/linear_benchmark prints.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from exporters.runtime import find_ops_library

_PRODUCTS = {
    "query, key, value": (576, 960),
    "attention output": (576, 576),
    "gate and up": (576, 3072),
    "down": (1536, 576),
    "output projection": (576, 49152),
}
_ROWS = (1, 8, 32, 256)
_KINDS = ("float32", "MatMulNBits 4", "MatMulNBits 8", "Linear 4", "Linear 8")
_WEIGHT_BYTES = 48 << 20
_MAX_COPIES = 48
# A byte that makes every half a small number: 0x2c2c is 0.065.
_FILL = 0x2C
_BLOCK = 32


def _product(kind: str, inputs: int, outputs: int, name: str) -> tuple[Any, list[Any]]:
    """A node and its constants; what the weights are does not matter to their speed."""
    name_bits = kind.split()
    if kind == "float32":
        weight = np.full((inputs, outputs), 0.01, np.float32)
        return helper.make_node("MatMul", ["x", f"{name}.w"], [name]), [numpy_helper.from_array(weight, f"{name}.w")]
    bits = int(name_bits[1])
    if name_bits[0] == "Linear":
        block_bytes = 320 if bits == 4 else 544
        packed = np.full((-(-outputs // 16), -(-inputs // _BLOCK) * block_bytes), _FILL, np.uint8)
        sizes = {"K": inputs, "N": outputs, "bits": bits, "factor": 1.0, "gated": 0}
        node = helper.make_node("Linear", ["x", f"{name}.w"], [name], domain="naiad", **sizes)
        return node, [numpy_helper.from_array(packed, f"{name}.w")]
    blocks = -(-inputs // _BLOCK)
    constants = [
        numpy_helper.from_array(np.full((outputs, blocks, _BLOCK * bits // 8), _FILL, np.uint8), f"{name}.w"),
        numpy_helper.from_array(np.full((outputs, blocks), 0.01, np.float32), f"{name}.s"),
    ]
    sizes = {"K": inputs, "N": outputs, "bits": bits, "block_size": _BLOCK, "accuracy_level": 4}
    node = helper.make_node(
        "MatMulNBits", ["x", *(tensor.name for tensor in constants)], [name], domain="com.microsoft", **sizes
    )
    return node, constants


def _session(kind: str, inputs: int, outputs: int, threads: int) -> tuple[Any, int]:
    """A session over independent products of one kind, and how many they are."""
    import onnxruntime

    copies = min(_MAX_COPIES, -(-_WEIGHT_BYTES // (inputs * outputs // 2)))
    parts = [_product(kind, inputs, outputs, f"y{copy}") for copy in range(copies)]
    graph = helper.make_graph(
        [node for node, _ in parts],
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", inputs])],
        [helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, None) for copy in range(copies)],
        [tensor for _, tensors in parts for tensor in tensors],
    )
    opsets = [
        helper.make_opsetid(domain, version) for domain, version in (("", 20), ("naiad", 1), ("com.microsoft", 1))
    ]
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(find_ops_library(None)))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, copies


def _measure(name: str, threads: int, rounds: int) -> None:
    inputs, outputs = _PRODUCTS[name]
    sessions = {kind: _session(kind, inputs, outputs, threads) for kind in _KINDS}
    for rows in _ROWS:
        x = np.random.default_rng(rows).normal(size=(rows, inputs)).astype(np.float32)
        best = dict.fromkeys(_KINDS, float("inf"))
        for _ in range(rounds):
            for kind, (session, copies) in sessions.items():
                begin = time.perf_counter()
                session.run(None, {"x": x})
                best[kind] = min(best[kind], (time.perf_counter() - begin) / copies)
        times = " | ".join(f"{best[kind] * 1e6:.0f}" for kind in _KINDS)
        print(f"| {name} | {inputs} | {outputs} | {rows} | {times} |", flush=True)


def main(argv: list[str] | None = None) -> int:
    """`python -m benchmarks.linear_products`."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.linear_products", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--threads", type=int, default=2, help="of each session (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each graph (default: %(default)s)")
    parser.add_argument("--products", nargs="+", choices=_PRODUCTS, default=list(_PRODUCTS), help="which to measure")
    arguments = parser.parse_args(argv)
    print("| product | K | N | rows |", " | ".join(f"{kind}, us" for kind in _KINDS), "|")
    print("|" + "---|" * (4 + len(_KINDS)))
    for name in arguments.products:
        _measure(name, arguments.threads, arguments.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
