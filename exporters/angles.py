"""Rotary angles as transformers computes them: each twice over, times 1. Half of that is enough for RotaryEmbedding."""

from __future__ import annotations

from typing import Any

from exporters.constants import constant_array


def simplify_angles(graph: Any) -> None:
    """Rewrites an `onnx_ir.Graph` in place; unused nodes are left for RemoveUnusedNodesPass."""
    for node in list(graph):
        if node.op_type == "Slice" and node.domain == "":
            _slice_before_doubling(graph, node)


def _slice_before_doubling(graph: Any, node: Any) -> None:
    """The first half of scale * cos(concat(x, x)) is scale * cos(x); sin likewise."""
    import onnx_ir as ir

    value, scales = node.inputs[0], []
    while value.producer() is not None and value.producer().op_type == "Mul":
        product = value.producer()
        scale = constant_array(product.inputs[1])
        if scale is None or scale.size != 1:
            return
        if float(scale.item()) != 1.0:
            scales.append(product.inputs[1])
        value = product.inputs[0]
    function = value.producer()
    concat = function.inputs[0].producer() if function is not None and function.op_type in {"Cos", "Sin"} else None
    if concat is None or not _takes_the_first_of_two_halves(node, concat):
        return
    halves = [ir.node(function.op_type, [concat.inputs[0]], name=f"{node.name}.half")]
    halves += [ir.node("Mul", [halves[-1].outputs[0], scale], name=f"{node.name}.scaled") for scale in scales[:1]]
    if len(scales) > 1:
        return
    old = node.outputs[0]
    for index, half in enumerate(halves):
        output = half.outputs[0]
        output.name, output.type, output.shape = f"{old.name}.half.{index}", old.type, old.shape
    graph.insert_before(node, halves)
    old.replace_all_uses_with(halves[-1].outputs[0])


def _takes_the_first_of_two_halves(node: Any, concat: Any) -> bool:
    if concat.op_type != "Concat" or len(concat.inputs) != 2 or concat.inputs[0] is not concat.inputs[1]:
        return False
    shape, sliced = concat.inputs[0].shape, node.outputs[0].shape
    if (
        shape is None
        or sliced is None
        or list(shape) != list(sliced)
        or concat.attributes["axis"].as_int() not in (-1, len(shape) - 1)
    ):
        return False
    starts, axes = (constant_array(node.inputs[index]) for index in (1, 3))
    steps = constant_array(node.inputs[4]) if len(node.inputs) > 4 else None
    if starts is None or axes is None or (len(node.inputs) > 4 and steps is None):
        return False
    last = [int(axis) % len(shape) for axis in axes.reshape(-1)] == [len(shape) - 1]
    return last and int(starts.reshape(-1)[0]) == 0 and (steps is None or int(steps.reshape(-1)[0]) == 1)
