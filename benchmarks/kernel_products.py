"""naiad::Linear next to ONNX Runtime's own products: same shapes, rows and threads, in turns.

`python -m benchmarks.kernel_products [--threads 2] [--rows 1,8,32]` prints a Markdown table. A graph has as many nodes
as it takes for their weights to exceed the caches, as those of a model do, and its outputs go to memory that is there
before. Codes and scales are random: nothing is compared but time.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.report import table
from exporters.runtime import find_ops_library

BLOCK_INPUTS = 32
_WEIGHT_BYTES = 96 << 20
_ROUNDS = 7
# An IR version that every supported runtime reads.
_IR_VERSION = 10


@dataclass(frozen=True)
class Shape:
    """A product of the `chat` model: K inputs, N outputs."""

    name: str
    inputs: int
    outputs: int


SHAPES = (
    Shape("query, key, value", 576, 960),
    Shape("attention output", 576, 576),
    Shape("gate and up", 576, 3072),
    Shape("down", 1536, 576),
    Shape("output projection", 576, 49152),
)


@dataclass(frozen=True)
class Kind:
    """One way to multiply. Its weights, in the order of the node's inputs after the activations."""

    name: str
    operator: str
    domain: str
    attributes: Callable[[Shape], dict[str, int | float]]
    weights: Callable[[Shape, np.random.Generator], list[npt.NDArray[Any]]]


def _naiad_weights(bits: int) -> Callable[[Shape, np.random.Generator], list[npt.NDArray[Any]]]:
    def make(shape: Shape, random: np.random.Generator) -> list[npt.NDArray[Any]]:
        tiles, blocks = -(-shape.outputs // 16), -(-shape.inputs // BLOCK_INPUTS)
        codes = random.integers(0, 256, (tiles, blocks, 64 * bits), np.uint8)
        halves = np.full((tiles, blocks, 16 * (2 if bits == 4 else 1)), 0.01, np.float16).view(np.uint8)
        return [np.concatenate([codes, halves], axis=2).reshape(tiles, -1)]

    return make


def _matmul_nbits_weights(shape: Shape, random: np.random.Generator) -> list[npt.NDArray[Any]]:
    blocks = -(-shape.inputs // BLOCK_INPUTS)
    codes = random.integers(0, 256, (shape.outputs, blocks, BLOCK_INPUTS // 2), np.uint8)
    zero_points = random.integers(0, 256, shape.outputs * -(-blocks // 2), np.uint8)
    return [codes, np.full(shape.outputs * blocks, 0.01, np.float32), zero_points]


def _dynamic_int8_weights(shape: Shape, random: np.random.Generator) -> list[npt.NDArray[Any]]:
    codes = random.integers(-127, 128, (shape.inputs, shape.outputs), np.int8)
    return [codes, np.full(shape.outputs, 0.01, np.float32)]


def _float_weights(shape: Shape, random: np.random.Generator) -> list[npt.NDArray[Any]]:
    return [random.standard_normal((shape.inputs, shape.outputs), np.float32)]


def _sizes(bits: int, **more: int | float) -> Callable[[Shape], dict[str, int | float]]:
    return lambda shape: {"K": shape.inputs, "N": shape.outputs, "bits": bits, **more}


NAIAD_INT4 = Kind("naiad int4", "Linear", "naiad", _sizes(4, factor=1.0, gated=0), _naiad_weights(4))
NAIAD_INT8 = Kind("naiad int8", "Linear", "naiad", _sizes(8, factor=1.0, gated=0), _naiad_weights(8))
MATMUL_NBITS = Kind(
    "MatMulNBits",
    "MatMulNBits",
    "com.microsoft",
    _sizes(4, block_size=BLOCK_INPUTS, accuracy_level=4),
    _matmul_nbits_weights,
)
DYNAMIC_INT8 = Kind(
    "DynamicQuantizeMatMul", "DynamicQuantizeMatMul", "com.microsoft", lambda _: {}, _dynamic_int8_weights
)
FP32 = Kind("fp32 MatMul", "MatMul", "", lambda _: {}, _float_weights)
KINDS = (NAIAD_INT4, MATMUL_NBITS, NAIAD_INT8, DYNAMIC_INT8, FP32)


def copies_of(weight_bytes: int) -> int:
    """How many times weights of that many bytes are stored, so that no cache holds them all."""
    return max(1, -(-_WEIGHT_BYTES // weight_bytes))


def graph_of(kind: Kind, shape: Shape, seed: int = 1) -> tuple[bytes, int]:
    """A model of nodes that multiply the same input x with weights of their own, and how many there are."""
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(seed)
    copies = copies_of(sum(part.nbytes for part in kind.weights(shape, random)))
    nodes, constants, outputs = [], [], []
    for copy in range(copies):
        # Of its own: the runtime keeps equal constants once.
        weights = kind.weights(shape, random)
        names = [f"w{copy}_{i}" for i in range(len(weights))]
        constants += [numpy_helper.from_array(part, name) for part, name in zip(weights, names, strict=True)]
        nodes.append(
            helper.make_node(kind.operator, ["x", *names], [f"y{copy}"], domain=kind.domain, **kind.attributes(shape))
        )
        outputs.append(helper.make_tensor_value_info(f"y{copy}", TensorProto.FLOAT, ["rows", shape.outputs]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", shape.inputs])
    graph = helper.make_graph(nodes, "products", [given], outputs, constants)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("naiad", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION)
    return bytes(model.SerializeToString()), copies


class Product:
    """A session over one kind of product of one shape."""

    def __init__(self, kind: Kind, shape: Shape, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        # Threads spin within a run, as always; afterwards they would take time from the next kind's.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.register_custom_ops_library(str(find_ops_library(None)))
        model, self._copies = graph_of(kind, shape)
        self._session: Any = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._shape = shape

    def microseconds(self, rows: int, seconds: float) -> float:
        """Of one product: the median over runs of the whole graph within about `seconds`, after one to warm up."""
        import onnxruntime

        random = np.random.default_rng(2)
        binding = self._session.io_binding()
        binding.bind_cpu_input("x", random.standard_normal((rows, self._shape.inputs), np.float32))
        # One buffer for all: the nodes run one after the other, and nobody reads them.
        output = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros((rows, self._shape.outputs), np.float32))
        for copy in range(self._copies):
            binding.bind_ortvalue_output(f"y{copy}", output)
        self._session.run_with_iobinding(binding)
        times: list[float] = []
        end = time.perf_counter() + seconds
        while not times or time.perf_counter() < end:
            begin = time.perf_counter()
            self._session.run_with_iobinding(binding)
            times.append(time.perf_counter() - begin)
        return statistics.median(times) / self._copies * 1e6


def ratio(ours: Sequence[float], other: Sequence[float]) -> float:
    """How many times faster ours is: the median over rounds, in each of which both were measured."""
    return statistics.median(theirs / mine for mine, theirs in zip(ours, other, strict=True))


def row_of(shape: Shape, rows: int, rounds: dict[str, list[float]]) -> list[str]:
    """A line of the table from the microseconds of each round, by kind."""
    cells = [shape.name, str(rows)]
    for ours, theirs in ((NAIAD_INT4, MATMUL_NBITS), (NAIAD_INT8, DYNAMIC_INT8)):
        mine, other = rounds[ours.name], rounds[theirs.name]
        cells += [f"{statistics.median(mine):,.1f}", f"{statistics.median(other):,.1f}", f"{ratio(mine, other):.2f}"]
    floats = rounds[FP32.name]
    return [*cells, f"{statistics.median(floats):,.1f}", f"{ratio(rounds[NAIAD_INT4.name], floats):.2f}"]


def heads() -> list[str]:
    """Those of the table."""
    names = [f"{NAIAD_INT4.name}, us", f"{MATMUL_NBITS.name}, us", "times faster"]
    names += [f"{NAIAD_INT8.name}, us", f"{DYNAMIC_INT8.name}, us", "times faster"]
    return ["product", "rows", *names, f"{FP32.name}, us", "times faster (int4)"]


def main(argv: list[str] | None = None) -> int:
    """`python -m benchmarks.kernel_products`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernel_products", description=(__doc__ or "")[:70])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", default="1,8,32,256", help="numbers of rows, with commas between them")
    parser.add_argument("--seconds", type=float, default=0.1, help="for each figure of each round")
    arguments = parser.parse_args(argv)
    all_rows = [int(rows) for rows in arguments.rows.split(",")]
    lines = []
    for shape in SHAPES:
        products = {kind.name: Product(kind, shape, arguments.threads) for kind in KINDS}
        for rows in all_rows:
            rounds: dict[str, list[float]] = {name: [] for name in products}
            for _ in range(_ROUNDS):
                for name, product in products.items():
                    rounds[name].append(product.microseconds(rows, arguments.seconds))
            lines.append(row_of(shape, rows, rounds))
    print(table(heads(), lines))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
