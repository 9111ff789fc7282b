"""Gemm, as the layers of GPT-2 are exported, becomes the MatMul and Add that quantisation looks for."""

from __future__ import annotations

from typing import Any

# Attribute: what a plain product has, which is also what it has when the attribute is missing.
_PLAIN = {"alpha": 1.0, "beta": 1.0, "transA": 0}


def split_gemms(graph: Any) -> None:
    """Rewrites every Gemm that is x * W + b, or x * transposed W + b, with a constant vector b or none."""
    for node in list(graph):
        if node.op_type != "Gemm" or node.domain != "" or not _is_plain(node):
            continue
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is None or (bias.is_initializer() and bias.shape is not None and len(bias.shape) == 1):
            _split(graph, node, bias)


def _is_plain(node: Any) -> bool:
    return all(name not in node.attributes or node.attributes[name].value == value for name, value in _PLAIN.items())


def _split(graph: Any, gemm: Any, bias: Any | None) -> None:
    import onnx_ir as ir

    weight, parts = gemm.inputs[1], []
    if "transB" in gemm.attributes and gemm.attributes["transB"].value:
        parts.append(ir.node("Transpose", [weight], {"perm": [1, 0]}, name=f"{gemm.name}.transposed"))
        weight = parts[-1].outputs[0]
    parts.append(ir.node("MatMul", [gemm.inputs[0], weight], name=f"{gemm.name}.product"))
    if bias is not None:
        parts.append(ir.node("Add", [parts[-1].outputs[0], bias], name=f"{gemm.name}.biased"))
    for part in parts[:-1]:
        part.outputs[0].name = f"{part.name}.out"
    old, new = gemm.outputs[0], parts[-1].outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    graph.insert_before(gemm, parts)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove(gemm, safe=True)
