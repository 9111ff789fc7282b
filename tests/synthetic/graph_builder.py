"""A few words to write small ONNX graphs with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

# The ONNX names of the types in use.
FLOAT = TensorProto.FLOAT
UINT8 = TensorProto.UINT8
INT32 = TensorProto.INT32
INT64 = TensorProto.INT64


class GraphBuilder:
    """Collects nodes, constants, inputs and outputs; every method that makes a value returns its name."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._count = 0

    def name(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def constant(self, array: npt.ArrayLike, dtype: type[np.generic]) -> str:
        name = self.name()
        self._constants.append(numpy_helper.from_array(np.asarray(array, dtype), name))
        return name

    def input(self, name: str, dtype: int, shape: Sequence[int | str]) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))
        return name

    def output(self, name: str, dtype: int, shape: Sequence[int | str]) -> None:
        self._outputs.append(helper.make_tensor_value_info(name, dtype, list(shape)))

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: int | float) -> str:
        name = output or self.name()
        self._nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}_{name}", **attributes))
        return name

    def naiad_node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | float) -> None:
        self._nodes.append(
            helper.make_node(op, list(inputs), list(outputs), name=f"{op}_{outputs[0]}", domain="naiad", **attributes)
        )

    def cast(self, value: str, dtype: int, output: str | None = None) -> str:
        return self.node("Cast", value, output=output, to=dtype)

    def columns(self, *values: str) -> str:
        """[T] floats side by side: [T, number of values]."""
        axis = self.constant([1], np.int64)
        return self.node("Concat", *[self.node("Unsqueeze", value, axis) for value in values], axis=1)

    def column(self, matrix: str, index: int) -> str:
        """One column of [T, n]: [T]."""
        return self.node("Gather", matrix, self.constant(index, np.int64), axis=1)

    def model(self, name: str) -> onnx.ModelProto:
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", 20), helper.make_opsetid("naiad", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10, producer_name="naiad-synthetic")


def placement(rows: int, columns: int, ones: Sequence[tuple[int, int]]) -> npt.NDArray[np.float32]:
    """A [rows, columns] matrix of zeros with ones at the given places: multiplying with it moves columns, exactly."""
    matrix = np.zeros((rows, columns), np.float32)
    for row, column in ones:
        matrix[row, column] = 1.0
    return matrix
