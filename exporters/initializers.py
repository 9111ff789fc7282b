"""Adds constants to a graph."""

from __future__ import annotations

from typing import Any


def add_initializer(graph: Any, name: str, array: Any) -> Any:
    """The constant `name` of an `onnx_ir.Graph`, made from a numpy array unless it is there already."""
    import onnx_ir as ir

    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
