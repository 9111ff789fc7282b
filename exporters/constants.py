"""What a graph knows before it runs."""

from __future__ import annotations

from typing import Any


def constant_array(value: Any) -> Any | None:
    """The numpy array behind an initializer or a Constant node, else None."""
    if value is None:
        return None
    if value.is_initializer():
        return None if value.const_value is None else value.const_value.numpy()
    node = value.producer()
    if node is None or node.op_type != "Constant":
        return None
    from onnx_ir import convenience

    tensor = convenience.get_const_tensor(value)
    return None if tensor is None else tensor.numpy()


def is_constant(value: Any) -> bool:
    """Whether a value depends on no input of the graph."""
    if value is None or value.is_initializer():
        return True
    node = value.producer()
    return node is not None and all(is_constant(source) for source in node.inputs)
