"""Moves what stands beside a naiad::Linear into it: RMSNorm in front of it, and the residual addition behind it.

In a llama-shaped decoder this leaves no node between products and attention. Where only one of the two fits, the other
stays a node of its own.
"""

from __future__ import annotations

from typing import Any

_NORM_WEIGHT, _RESIDUAL, _INPUTS = 3, 4, 5


def fuse_norms_and_residuals(graph: Any) -> None:
    """Rewrites an `onnx_ir.Graph` in place; unused nodes are left for RemoveUnusedNodesPass."""
    for node in list(graph):
        kind = (node.domain, node.op_type)
        if kind == ("com.microsoft", "SkipSimplifiedLayerNormalization"):
            _fuse_residual_norm(graph, node)
        elif kind == ("", "RMSNormalization") and node.attributes["axis"].as_int() == -1:
            readers = _norm_readers(node.outputs[0], node.inputs[1])
            if readers:
                _fuse_norm(node.outputs[0], node.inputs[0], node.inputs[1], node.attributes["epsilon"], readers)
        elif kind == ("", "Add"):
            _fuse_addition(node)
    graph.sort()


def _fuse_residual_norm(graph: Any, node: Any) -> None:
    import onnx_ir as ir

    normalised, total = node.outputs[0], node.outputs[3]
    weight, epsilon = node.inputs[2], node.attributes["epsilon"]
    readers = _norm_readers(normalised, weight)
    product, residual = _product_and_residual(*node.inputs[:2])
    if total.is_graph_output() or (product is None and not readers):
        return
    if product is None:
        addition = ir.node("Add", list(node.inputs[:2]), name=f"{node.name}.sum")
        graph.insert_before(node, addition)
        stream = addition.outputs[0]
        stream.name, stream.type, stream.shape = f"{total.name}.sum", total.type, total.shape
    else:
        _add_residual(product, residual)
        stream = product.outputs[0]
    total.replace_all_uses_with(stream)
    if readers:
        _fuse_norm(normalised, stream, weight, epsilon, readers)
        return
    norm = ir.node(
        "RMSNormalization", [stream, weight], {"axis": -1, "epsilon": epsilon.as_float()}, name=f"{node.name}.norm"
    )
    graph.insert_before(node, norm)
    alone = norm.outputs[0]
    alone.name, alone.type, alone.shape = f"{normalised.name}.norm", normalised.type, normalised.shape
    normalised.replace_all_uses_with(alone, replace_graph_outputs=True)


def _norm_readers(normalised: Any, weight: Any) -> list[Any]:
    """The Linear nodes that read a normalised value, maybe by way of a Reshape of its rows; empty if others read it."""
    if normalised.is_graph_output() or not weight.is_initializer():
        return []
    readers = []
    for node in normalised.consumers():
        if node.op_type == "Reshape" and _keeps_rows(node) and not node.outputs[0].is_graph_output():
            behind = _norm_readers(node.outputs[0], weight)
            if not behind:
                return []
            readers += behind
        elif _takes_norm(node, normalised, weight):
            readers.append(node)
        else:
            return []
    return readers


def _keeps_rows(reshape: Any) -> bool:
    before, after = reshape.inputs[0].shape, reshape.outputs[0].shape
    return before is not None and after is not None and isinstance(before[-1], int) and before[-1] == after[-1]


def _takes_norm(node: Any, normalised: Any, weight: Any) -> bool:
    if (node.domain, node.op_type) != ("naiad", "Linear") or node.inputs[0] is not normalised:
        return False
    has_norm = len(node.inputs) > _NORM_WEIGHT and node.inputs[_NORM_WEIGHT] is not None
    is_gated = node.attributes["gated"].as_int() != 0
    fits = tuple(weight.shape or ()) == (node.attributes["K"].as_int(),)
    return fits and not has_norm and not is_gated and list(node.inputs).count(normalised) == 1


def _fuse_norm(normalised: Any, source: Any, weight: Any, epsilon: Any, readers: list[Any]) -> None:
    import onnx_ir as ir

    for linear in readers:
        _make_room(linear)
        linear.replace_input_with(_NORM_WEIGHT, weight)
        linear.attributes["epsilon"] = ir.AttrFloat32("epsilon", epsilon.as_float())
    normalised.replace_all_uses_with(source)


def _fuse_addition(node: Any) -> None:
    product, residual = _product_and_residual(*node.inputs)
    if product is not None and not node.outputs[0].is_graph_output():
        _add_residual(product, residual)
        node.outputs[0].replace_all_uses_with(product.outputs[0])


def _product_and_residual(first: Any, second: Any) -> tuple[Any | None, Any | None]:
    """The Linear node behind one of two values of the same shape, which nothing else reads, and the other value."""
    for value, other in ((second, first), (first, second)):
        node = value.producer()
        if node is None or (node.domain, node.op_type) != ("naiad", "Linear") or value is other:
            continue
        has_residual = len(node.inputs) > _RESIDUAL and node.inputs[_RESIDUAL] is not None
        alone = len(value.uses()) == 1 and not value.is_graph_output()
        if alone and not has_residual and _same_shape(value, other):
            return node, other
    return None, None


def _same_shape(first: Any, second: Any) -> bool:
    return first.shape is not None and second.shape is not None and list(first.shape) == list(second.shape)


def _add_residual(linear: Any, residual: Any) -> None:
    _make_room(linear)
    linear.replace_input_with(_RESIDUAL, residual)


def _make_room(linear: Any) -> None:
    if len(linear.inputs) < _INPUTS:
        linear.resize_inputs(_INPUTS)
