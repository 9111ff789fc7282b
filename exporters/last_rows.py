"""Spares a decoder what nobody reads: behind the last attention, rows whose logits are not wanted.

Every node there works row by row, so the wanted rows can be taken before the last output projection and MLP instead of
after them. In a prefill that is one row of hundreds.
"""

from __future__ import annotations

from typing import Any

from exporters.constants import constant_array, is_constant
from exporters.initializers import add_initializer

_ELEMENTWISE = frozenset({
    "Add", "Sub", "Mul", "Div", "Pow", "Neg", "Abs", "Sqrt", "Reciprocal", "Exp", "Erf", "Sigmoid", "Tanh", "Relu",
    "Gelu", "Softplus", "Clip", "Min", "Max", "Cast",
})  # fmt: skip
# Work on the last axis, if their attribute says so.
_LAST_AXIS = frozenset({"RMSNormalization", "LayerNormalization", "Split", "Softmax"})
_TOKEN_AXIS, _RANK = 1, 3  # Of [1, tokens, width].


def take_rows_early(graph: Any) -> None:
    """Moves the choice of `logit_rows` to behind the last attention, and drops the batch axis before the logits."""
    graph.sort()
    for node in list(graph):
        choice = _row_choice(node)
        if choice is not None:
            _hoist(graph, *choice)
    _drop_batch_axis(graph)
    graph.sort()


def _row_choice(node: Any) -> tuple[Any, Any, Any] | None:
    """(all rows, indices, chosen rows) if `node` ends what torch makes of hidden_states[:, rows], else None."""
    gather = node.inputs[0].producer() if _swaps_first_axes(node) else None
    if gather is None or gather.op_type != "GatherND":
        return None
    batch_dims = gather.attributes.get("batch_dims")
    before, indices = gather.inputs[0].producer(), gather.inputs[1].producer()
    if before is None or not _swaps_first_axes(before) or (batch_dims is not None and batch_dims.as_int() != 0):
        return None
    if indices is None or indices.op_type != "Unsqueeze" or not indices.inputs[0].is_graph_input():
        return None
    rows = before.inputs[0]
    return (rows, indices.inputs[0], node.outputs[0]) if _has_token_rows(rows) else None


def _swaps_first_axes(node: Any) -> bool:
    return node.op_type == "Transpose" and list(node.attributes["perm"].as_ints()) == [1, 0, 2]


def _has_token_rows(value: Any) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == _RANK and shape[0] == 1 and not isinstance(shape[_TOKEN_AXIS], int)


def _hoist(graph: Any, rows: Any, indices: Any, chosen: Any) -> None:
    spared = _nodes_only_for(graph, rows, chosen)
    sources = _sources(spared) or [rows]
    has_product = any(node.op_type in {"MatMul", "Linear"} for node in spared)
    if not has_product or not all(_same_tokens(source, rows) for source in sources):
        spared, sources = [], [rows]
    count = indices.shape[0]
    taken = {source: _gather(graph, source, indices, count) for source in sources}
    for node in spared:
        for index, value in enumerate(node.inputs):
            if value in taken:
                node.replace_input_with(index, taken[value])
        for output in node.outputs:
            _resize(output, count)
    chosen.replace_all_uses_with(rows if spared else taken[rows])


def _nodes_only_for(graph: Any, rows: Any, chosen: Any) -> list[Any]:
    """The nodes that work row by row and that nothing reads but the way to `rows`."""
    choosing = {chosen.producer(), chosen.producer().inputs[0].producer(), rows.consumers()[0]}
    if set(rows.consumers()) - choosing:
        return []
    found: set[Any] = set(choosing)
    spared = []
    for node in reversed(list(graph)):
        readers = {reader for output in node.outputs for reader in output.consumers()}
        is_output = any(output.is_graph_output() for output in node.outputs)
        if readers and readers <= found and not is_output and node not in choosing and _works_by_row(node):
            found.add(node)
            spared.append(node)
    return spared


def _works_by_row(node: Any) -> bool:
    kind = (node.domain, node.op_type)
    if kind == ("", "MatMul"):
        return _has_token_rows(node.inputs[0]) and is_constant(node.inputs[1])
    if kind in {("naiad", "Linear"), ("com.microsoft", "SkipSimplifiedLayerNormalization")}:
        return True
    if node.domain != "" or is_constant(node.outputs[0]):
        return False
    if node.op_type in _LAST_AXIS:
        axis = node.attributes.get("axis")
        return axis is not None and axis.as_int() in (-1, _RANK - 1)
    return node.op_type in _ELEMENTWISE


def _sources(nodes: list[Any]) -> list[Any]:
    """What the nodes read that none of them makes, without constants."""
    inside = set(nodes)
    values = [value for node in nodes for value in node.inputs if value is not None and not is_constant(value)]
    return list(dict.fromkeys(value for value in values if value.producer() not in inside))


def _same_tokens(value: Any, rows: Any) -> bool:
    return _has_token_rows(value) and value.shape[_TOKEN_AXIS] == rows.shape[_TOKEN_AXIS]


def _gather(graph: Any, source: Any, indices: Any, count: Any) -> Any:
    import onnx_ir as ir

    gather = ir.node("Gather", [source, indices], {"axis": _TOKEN_AXIS}, name=f"{source.name}.chosen")
    output = gather.outputs[0]
    output.name, output.type, output.shape = f"{source.name}.chosen.out", source.type, source.shape
    _resize(output, count)
    graph.insert_after(source.producer(), gather)
    return output


def _resize(value: Any, count: Any) -> None:
    import onnx_ir as ir

    if value.shape is not None and len(value.shape) == _RANK:
        value.shape = ir.Shape([value.shape[0], count, value.shape[2]])


def _drop_batch_axis(graph: Any) -> None:
    """logits[0] copies all logits; the row before the output projection is smaller, and reshaping it copies nothing."""
    import numpy as np
    import onnx_ir as ir

    for node in list(graph):
        if node.op_type != "Gather" or not node.outputs[0].is_graph_output():
            continue
        axis, index = node.attributes.get("axis"), constant_array(node.inputs[1])
        is_first = index is not None and index.shape == () and int(index) == 0 and (axis is None or axis.as_int() == 0)
        chain = _chain_to_product(node.inputs[0]) if is_first else None
        if chain is None or not _has_token_rows(node.inputs[0]):
            continue
        product = chain[-1]
        hidden = product.inputs[0]
        target = add_initializer(graph, f"{hidden.name}.rows", np.array([-1, hidden.shape[-1]], dtype=np.int64))
        reshape = ir.node("Reshape", [hidden, target], name=f"{hidden.name}.flat")
        flat = reshape.outputs[0]
        flat.name, flat.type, flat.shape = f"{hidden.name}.flat.out", hidden.type, ir.Shape(list(hidden.shape)[1:])
        graph.insert_before(product, reshape)
        product.replace_input_with(0, flat)
        for step in chain:
            step.outputs[0].shape = ir.Shape(list(step.outputs[0].shape)[1:])
        new, old = node.inputs[0], node.outputs[0]
        name = old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        new.name = name


def _chain_to_product(value: Any) -> list[Any] | None:
    """Nodes from the one that gives `value` to a product with constant weights, with only elementwise ones between."""
    chain = []
    while len(value.consumers()) == 1 and value.shape is not None and value.producer() is not None:
        node = value.producer()
        chain.append(node)
        if node.op_type == "MatMul" and is_constant(node.inputs[1]) and _has_token_rows(node.inputs[0]):
            return chain
        small = [v for v in node.inputs[1:] if is_constant(v) and (v is None or v.shape is None or len(v.shape) < 2)]
        if node.op_type not in _ELEMENTWISE or len(small) != len(node.inputs) - 1:
            return None
        value = node.inputs[0]
    return None
