"""Makes a traced graph cheaper to run without changing what it computes.

Each function is one rewrite over an `onnx_ir.Model`, in place. Parity is checked after all of them, on the graph that
is written.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from exporters.angles import simplify_angles
from exporters.initializers import add_initializer
from exporters.last_rows import take_rows_early


def optimise(model: Any) -> None:
    """All rewrites, in the order in which they help each other."""
    from onnx_ir.passes import common
    from onnxscript import optimizer

    # Not onnxscript's whole optimiser: its pattern rules cost half a minute on a graph of thousands of nodes, and what
    # they would find here is found below.
    optimizer.fold_constants(model, onnx_shape_inference=True)
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True)(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.DeduplicateInitializersPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    _cancel_transposes(model.graph)
    _fix_reshape_targets(model.graph)
    _collapse_reshapes(model.graph)
    _merge_shared_input_matmuls(model.graph)
    _fuse_residual_norms(model.graph)
    take_rows_early(model.graph)
    simplify_angles(model.graph)
    common.RemoveUnusedNodesPass()(model)
    model.graph.sort()
    for node in model.graph:  # traces of the Python source: nothing at serving time reads them
        node.metadata_props.clear()
        node.doc_string = None
    if any(node.domain == "com.microsoft" for node in model.graph):
        model.opset_imports.setdefault("com.microsoft", 1)


def _cancel_transposes(graph: Any) -> None:
    """A transpose that undoes the one before it goes, and both go when nothing else reads between them."""
    for node in graph:
        before = node.inputs[0].producer() if node.op_type == "Transpose" else None
        if before is None or before.op_type != "Transpose" or node.outputs[0].is_graph_output():
            continue
        first, second = before.attributes["perm"].as_ints(), node.attributes["perm"].as_ints()
        if [first[axis] for axis in second] == list(range(len(first))):
            node.outputs[0].replace_all_uses_with(before.inputs[0])


def _fix_reshape_targets(graph: Any) -> None:
    """A target that was computed from the number of tokens becomes a constant with -1 in that place."""
    import numpy as np

    for node in list(graph):
        shape = node.outputs[0].shape if node.op_type == "Reshape" else None
        if shape is None or node.inputs[1].const_value is not None:
            continue
        sizes = [size if isinstance(size, int) else -1 for size in shape]
        if sizes.count(-1) <= 1:
            name = f"{node.outputs[0].name}.target"
            node.replace_input_with(1, add_initializer(graph, name, np.array(sizes, dtype=np.int64)))


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
    """Projections of one input (query, key and value; gate and up) become one larger product and a Split."""
    groups: dict[Any, list[Any]] = defaultdict(list)
    for node in graph:
        weight = _matmul_weight(node)
        # Layers that share a weight would each get a copy of it.
        if weight is not None and len(weight.uses()) == 1:
            groups[node.inputs[0]].append(node)
    for source, products in groups.items():
        additions = [_bias_addition(product) for product in products]
        if len(products) > 1 and (all(additions) or not any(additions)):
            _merge(graph, source, products, additions if all(additions) else [])


def _bias_addition(product: Any) -> Any | None:
    """The node that adds a constant vector to a product that nothing else reads, else None."""
    uses = product.outputs[0].uses()
    if len(uses) != 1:
        return None
    addition = uses[0].node
    if addition.op_type != "Add":
        return None
    bias = addition.inputs[1 - uses[0].idx]
    known = bias is not None and bias.is_initializer() and bias.const_value is not None
    return addition if known and len(bias.const_value.shape) == 1 else None


def _merge(graph: Any, source: Any, products: list[Any], additions: list[Any]) -> None:
    import numpy as np
    import onnx_ir as ir

    ends = additions or products
    if any(node.outputs[0].is_graph_output() for node in ends):
        return
    weights = [product.inputs[1].const_value.numpy() for product in products]
    name = f"{ends[0].outputs[0].name}.merged"
    merged = [
        ir.node(
            "MatMul", [source, add_initializer(graph, f"{name}.weight", np.concatenate(weights, axis=1))], name=name
        )
    ]
    if additions:
        biases = [
            next(value for value in node.inputs if value.is_initializer()).const_value.numpy() for node in additions
        ]
        bias = add_initializer(graph, f"{name}.bias", np.concatenate(biases))
        merged.append(ir.node("Add", [merged[0].outputs[0], bias], name=f"{name}.add"))
    for node in merged:
        node.outputs[0].name, node.outputs[0].type = f"{node.name}.out", ends[0].outputs[0].type
        shape = ends[0].outputs[0].shape
        if shape is not None:
            node.outputs[0].shape = ir.Shape([*list(shape)[:-1], sum(int(weight.shape[1]) for weight in weights)])
    widths = add_initializer(graph, f"{name}.widths", np.array([weight.shape[1] for weight in weights], dtype=np.int64))
    split = ir.node("Split", [merged[-1].outputs[0], widths], {"axis": -1}, num_outputs=len(ends), name=f"{name}.split")
    graph.insert_before(products[0], [*merged, split])
    for node, output in zip(ends, split.outputs, strict=True):
        old = node.outputs[0]
        output.name, output.type, output.shape = f"{old.name}.part", old.type, old.shape
        old.replace_all_uses_with(output)
    graph.remove([*additions, *products], safe=True)


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
