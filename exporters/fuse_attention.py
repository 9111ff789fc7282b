"""Moves what stands between a product and an attention operator into the operator.

Rotary embedding first, then the split of one product into query, key and value, then the reshape behind. Each is done
only where the graph has exactly that; what an architecture does in another way keeps its own nodes. For the CPU alone:
the operator for CUDA has separate inputs.
"""

from __future__ import annotations

from typing import Any

_QUERY, _KEY, _VALUE, _COS = 0, 1, 2, 8
_INPUTS_WITH_ANGLES = 10


def fuse_attention(model: Any) -> None:
    """Rewrites an `onnx_ir.Model` in place."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph = model.graph
    for node in list(graph):
        if node.op_type == "PagedAttention" and node.domain == "naiad" and node.inputs[_KEY] is not None:
            rotates = _absorb_rotation(node)
            if _absorb_split(node) or rotates:
                _keep_rank(graph, node)
        elif _sees_whole_texts(node) and _absorb_split(node):
            _keep_rank(graph, node)
    RemoveUnusedNodesPass()(model)


def _sees_whole_texts(node: Any) -> bool:
    """Whether it is an encoder's attention without a window, with which keys and values have to be apart."""
    is_packed = node.op_type == "PackedAttention" and node.domain == "naiad"
    return is_packed and bool(node.attributes["local_window_size"].as_int() < 0)


def _without_reshapes(value: Any) -> Any:
    while value.producer() is not None and value.producer().op_type == "Reshape":
        value = value.producer().inputs[0]
    return value


def _width(value: Any) -> int | None:
    width = value.shape[-1] if value.shape is not None else None
    return width if isinstance(width, int) else None


def _absorb_rotation(node: Any) -> bool:
    """Query and key turned by the same angles, by two RotaryEmbedding nodes: the attention node gets what they got."""
    query, key = _rotation(node, _QUERY, "num_heads"), _rotation(node, _KEY, "kv_num_heads")
    if query is None or key is None:
        return False
    if list(query.inputs[1:]) != list(key.inputs[1:]) or _rotary_dim(query) != _rotary_dim(key):
        return False
    node.resize_inputs(_INPUTS_WITH_ANGLES)
    for index, value in enumerate(query.inputs[1:]):
        node.replace_input_with(_COS + index, value)
    for index, rotation in ((_QUERY, query), (_KEY, key)):
        node.replace_input_with(index, rotation.inputs[0])
    node.replace_input_with(_VALUE, _without_reshapes(node.inputs[_VALUE]))
    return True


def _rotation(node: Any, index: int, heads: str) -> Any | None:
    """The RotaryEmbedding, in halves, over packed heads and with an angle for each token, that gives an input."""
    rotation = _without_reshapes(node.inputs[index]).producer()
    if rotation is None or rotation.op_type != "RotaryEmbedding" or rotation.domain != "":
        return None
    interleaved = rotation.attributes.get("interleaved")
    has_positions = len(rotation.inputs) > 3 and rotation.inputs[3] is not None
    if has_positions or (interleaved is not None and interleaved.as_int() != 0):
        return None
    if rotation.attributes["num_heads"].as_int() != node.attributes[heads].as_int():
        return None
    packed, cos = rotation.inputs[0], rotation.inputs[1]
    is_packed = packed.shape is not None and len(packed.shape) == len(rotation.outputs[0].shape or ()) == 3
    dim = _rotary_dim(rotation)
    return rotation if is_packed and dim is not None and _width(cos) == dim // 2 else None


def _rotary_dim(rotation: Any) -> int | None:
    dim = rotation.attributes.get("rotary_embedding_dim")
    if dim is not None and dim.as_int() > 0:
        return int(dim.as_int())
    width, heads = _width(rotation.outputs[0]), rotation.attributes["num_heads"].as_int()
    return None if width is None else width // heads


def _absorb_split(node: Any) -> bool:
    """Query, key and value that are the three parts of one value, in this order: the node gets the whole."""
    parts = [_without_reshapes(node.inputs[index]) for index in (_QUERY, _KEY, _VALUE)]
    split = parts[0].producer()
    if split is None or split.op_type != "Split" or list(split.outputs) != parts:
        return False
    widths = [_width(part) for part in parts]
    rank, axis = len(parts[0].shape or ()), split.attributes["axis"].as_int()
    heads, kv_heads = (node.attributes[name].as_int() for name in ("num_heads", "kv_num_heads"))
    if axis not in (-1, rank - 1) or widths[0] is None or widths[0] % heads:
        return False
    head = widths[0] // heads
    if widths[1:] != [kv_heads * head, kv_heads * head]:
        return False
    node.replace_input_with(_QUERY, split.inputs[0])
    node.replace_input_with(_KEY, None)
    node.replace_input_with(_VALUE, None)
    return True


def _keep_rank(graph: Any, node: Any) -> None:
    """The output has the rank of the query: both [1, T, width] if all readers want that, else both [T, width]."""
    import numpy as np
    import onnx_ir as ir

    from exporters.initializers import add_initializer

    query, output = node.inputs[_QUERY], node.outputs[0]
    readers = output.consumers()
    width = _width(output)
    targets = [reader.outputs[0] for reader in readers]
    reshaped = all(reader.op_type == "Reshape" for reader in readers) and not any(t.is_graph_output() for t in targets)
    if reshaped and all(target.shape is not None and list(target.shape)[::2] == [1, width] for target in targets):
        output.shape = targets[0].shape
        for target in targets:
            target.replace_all_uses_with(output)
        return
    if query.producer() is not None and query.producer().op_type == "Reshape":
        flat = query.producer().inputs[0]
        if flat.shape is not None and len(flat.shape) == 2:
            node.replace_input_with(_QUERY, flat)
            return
    tokens = output.shape[0] if output.shape is not None else None
    shape = [-1, _width(query)]
    target = add_initializer(graph, f"{output.name}.query_target", np.array(shape, dtype=np.int64))
    reshape = ir.node("Reshape", [query, target], name=f"{node.name}.query")
    flat = reshape.outputs[0]
    flat.name, flat.type, flat.shape = f"{output.name}.query", query.type, ir.Shape([tokens, shape[1]])
    graph.insert_before(node, reshape)
    node.replace_input_with(_QUERY, flat)
