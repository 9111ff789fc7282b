"""Makes a traced graph cheaper to run without changing what it computes.

Each function is one rewrite over an `onnx_ir.Model`, in place. Parity is checked after all of them, on the graph that is
written.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any


def optimise(model: Any) -> None:
    """All rewrites, in the order in which they help each other."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass
    from onnxscript import optimizer

    optimizer.optimize(model)
    _collapse_reshapes(model.graph)
    _merge_shared_input_matmuls(model.graph)
    _fuse_residual_norms(model.graph)
    RemoveUnusedNodesPass()(model)
    model.graph.sort()
    for node in model.graph:  # traces of the Python source: nothing at serving time reads them
        node.metadata_props.clear()
        node.doc_string = None
    if any(node.domain == "com.microsoft" for node in model.graph):
        model.opset_imports.setdefault("com.microsoft", 1)


def _collapse_reshapes(graph: Any) -> None:
    """Reshape of a reshape is one reshape, and none at all when the shape comes back to what it was."""
    for node in list(graph):
        if node.op_type != "Reshape":
            continue
        source = node.inputs[0]
        while source.producer() is not None and source.producer().op_type == "Reshape":
            source = source.producer().inputs[0]
        target = node.inputs[1].const_value
        if _same_shape(source, node.outputs[0]) and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(source)
        elif source is not node.inputs[0] and target is not None and 0 not in target.numpy():
            # A 0 copies the input's dimension, so it would mean another number with another input.
            node.replace_input_with(0, source)


def _same_shape(first: Any, second: Any) -> bool:
    if first.shape is None or second.shape is None or len(first.shape) != len(second.shape):
        return False
    return all(
        a == b and (isinstance(a, int) or a.value is not None) for a, b in zip(first.shape, second.shape, strict=True)
    )


def _matmul_weight(node: Any) -> Any | None:
    """The two-dimensional constant on the right of a MatMul, else None."""
    if node.op_type != "MatMul" or node.domain != "":
        return None
    weight = node.inputs[1]
    if not weight.is_initializer() or weight.const_value is None or len(weight.const_value.shape) != 2:
        return None
    return weight


def _merge_shared_input_matmuls(graph: Any) -> None:
    """Projections of one input (query, key and value; gate and up) become one MatMul and a Split: fewer, larger products."""
    import numpy as np
    import onnx_ir as ir

    groups: dict[Any, list[Any]] = defaultdict(list)
    for node in graph:
        if _matmul_weight(node) is not None:
            groups[node.inputs[0]].append(node)
    for source, nodes in groups.items():
        weights = [_matmul_weight(node) for node in nodes]
        if len(nodes) < 2 or any(node.outputs[0].is_graph_output() for node in nodes):
            continue
        merged = np.concatenate([weight.const_value.numpy() for weight in weights], axis=1)
        widths = np.array([weight.const_value.shape[1] for weight in weights], dtype=np.int64)
        name = f"{nodes[0].outputs[0].name}.merged"
        weight = _initializer(graph, f"{name}.weight", merged)
        sizes = _initializer(graph, f"{name}.widths", widths)
        product = ir.node("MatMul", [source, weight], name=name)
        product.outputs[0].name = name
        product.outputs[0].type = nodes[0].outputs[0].type
        product.outputs[0].shape = ir.Shape([*nodes[0].outputs[0].shape[:-1], int(merged.shape[1])])
        split = ir.node("Split", [product.outputs[0], sizes], {"axis": -1}, num_outputs=len(nodes), name=f"{name}.split")
        graph.insert_before(nodes[0], [product, split])
        for node, output in zip(nodes, split.outputs, strict=True):
            output.name, output.type, output.shape = f"{node.outputs[0].name}.part", node.outputs[0].type, node.outputs[0].shape
            node.outputs[0].replace_all_uses_with(output)
            graph.remove(node, safe=True)
        _drop_unused_initializers(graph, weights)


def _fuse_residual_norms(graph: Any) -> None:
    """Residual addition and the RMSNorm after it become one node that gives both the sum and the normalised sum."""
    import onnx_ir as ir

    for node in list(graph):
        if node.op_type != "RMSNormalization" or node.domain != "":
            continue
        add = node.inputs[0].producer()
        if add is None or add.op_type != "Add" or not _same_shape(add.inputs[0], add.inputs[1]):
            continue
        if len(node.inputs[0].shape) != 3 or node.inputs[0].is_graph_output():
            continue
        fused = ir.node(
            "SkipSimplifiedLayerNormalization",
            [add.inputs[0], add.inputs[1], node.inputs[1]],
            {"epsilon": node.attributes["epsilon"].as_float()},
            domain="com.microsoft",
            num_outputs=4,
            name=f"{node.name}.residual",
        )
        normalised, unused_mean, unused_variance, total = fused.outputs
        unused_mean.name = unused_variance.name = ""
        for value, old in ((normalised, node.outputs[0]), (total, add.outputs[0])):
            value.name, value.type, value.shape = f"{old.name}.fused", old.type, old.shape
        graph.insert_before(add, fused)
        node.outputs[0].replace_all_uses_with(normalised)
        add.outputs[0].replace_all_uses_with(total)
        graph.remove([node, add], safe=True)


def _initializer(graph: Any, name: str, array: Any) -> Any:
    import onnx_ir as ir

    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value


def _drop_unused_initializers(graph: Any, values: list[Any]) -> None:
    for value in values:
        if not value.uses() and value.name in graph.initializers:
            del graph.initializers[value.name]
