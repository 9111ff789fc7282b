"""Weights in 8 or 4 bits: MatMul with a constant weight becomes naiad::Linear, with the bias that is added to it.

Operator: docs/contracts.md section 2. Rounding and layout: pack_linear.py. Activations stay float in the graph; the
operator rounds them to 8 bits, a block at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from exporters.fuse_linear import fuse_norms_and_residuals
from exporters.initializers import add_initializer
from exporters.pack_linear import BLOCK_INPUTS, WIDE_BLOCK_INPUTS, PackedWeight, pack
from exporters.split_gemm import split_gemms

# Smaller products cost more in bookkeeping than they save in memory reads (classification heads, tiny layers).
_MIN_WEIGHTS = 4096


@dataclass(frozen=True)
class Rounded:
    """A packed weight, and what its node has to say of it."""

    weight: PackedWeight
    bits: int
    block_inputs: int = BLOCK_INPUTS


def quantise(model: Any, bits: Literal[4, 8], logits_width: int, min_weights: int = _MIN_WEIGHTS) -> int:
    """Quantises the constant right-hand sides of MatMuls of an `onnx_ir.Model` in place; returns how many.

    A product with `logits_width` columns, the output projection, gets 8 bits in any case: at 4 bits it costs more
    perplexity than all others together (docs/decisions/0003-default-precision.md).
    """

    def round_weight(matrix: Any) -> Rounded:
        own_bits = 8 if int(matrix.shape[1]) == logits_width else bits
        return Rounded(pack(matrix, own_bits), own_bits)

    return _quantise(model, round_weight, min_weights)


def quantise_encoder(model: Any, min_weights: int = _MIN_WEIGHTS) -> int:
    """The same for an encoder: 8 bits in wide blocks.

    A pooled vector, or a label, hardly shows that four times as many numbers share a scale.
    """
    return _quantise(
        model, lambda matrix: Rounded(pack(matrix, 8, WIDE_BLOCK_INPUTS), 8, WIDE_BLOCK_INPUTS), min_weights
    )


def _quantise(model: Any, round_weight: Callable[[Any], Rounded], min_weights: int) -> int:
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph, quantised = model.graph, 0
    split_gemms(graph)
    for node in list(graph):
        if node.op_type != "MatMul" or node.domain != "":
            continue
        weight, transposed = _constant_weight(node.inputs[1])
        if weight is None or weight.const_value.size < min_weights:
            continue
        matrix = weight.const_value.numpy()
        matrix = matrix.T if transposed else matrix
        name = f"{weight.name}.transposed" if transposed else weight.name
        _replace(graph, node, name, matrix.shape, round_weight(matrix))
        quantised += 1
    fuse_gates(graph)
    fuse_gelus(graph)
    fuse_norms_and_residuals(graph)
    RemoveUnusedNodesPass()(model)  # with the weights that nothing reads any more
    model.opset_imports.setdefault("naiad", 1)
    return quantised


def _replace(graph: Any, product: Any, name: str, shape: tuple[int, int], rounded: Rounded) -> None:
    """Puts a Linear node in the place of a product and of the addition of a constant vector behind it."""
    import onnx_ir as ir

    bits, inputs, outputs = rounded.bits, int(shape[0]), int(shape[1])
    addition, bias = _bias_addition(product, outputs)
    wide: dict[str, Any] = {} if rounded.block_inputs == BLOCK_INPUTS else {"block": rounded.block_inputs}
    weights = add_initializer(graph, f"{name}.packed{bits}", rounded.weight.packed)
    attributes = {"K": inputs, "N": outputs, "bits": bits, "factor": rounded.weight.factor, "gated": 0, **wide}
    linear = ir.node(
        "Linear",
        [product.inputs[0], weights] if addition is None else [product.inputs[0], weights, bias],
        attributes,
        domain="naiad",
        name=f"{product.name}.q{bits}",
    )
    end = product if addition is None else addition
    old, new = end.outputs[0], linear.outputs[0]
    new.name, new.type, new.shape = old.name, old.type, old.shape
    graph.insert_before(end, linear)
    old.replace_all_uses_with(new, replace_graph_outputs=True)
    graph.remove([end] if end is product else [end, product], safe=True)


def _bias_addition(product: Any, outputs: int) -> tuple[Any | None, Any | None]:
    """The node that adds a constant to each output of a product that nothing else reads, and it; else None twice."""
    uses = product.outputs[0].uses()
    if len(uses) != 1 or product.outputs[0].is_graph_output() or uses[0].node.op_type != "Add":
        return None, None
    bias = uses[0].node.inputs[1 - uses[0].idx]
    known = bias is not None and bias.is_initializer() and bias.const_value is not None
    return (uses[0].node, bias) if known and tuple(bias.const_value.shape) == (outputs,) else (None, None)


def fuse_gelus(graph: Any) -> None:
    """GELU with erf behind a Linear that nothing else reads becomes part of the Linear."""
    import onnx_ir as ir

    for node in list(graph):
        approximate = node.attributes.get("approximate") if node.op_type == "Gelu" and node.domain == "" else None
        if node.op_type != "Gelu" or (approximate is not None and approximate.as_string() != "none"):
            continue
        linear, old = node.inputs[0].producer(), node.outputs[0]
        if linear is None or (linear.domain, linear.op_type) != ("naiad", "Linear") or len(linear.inputs) > 3:
            continue
        if len(node.inputs[0].uses()) == 1 and not node.inputs[0].is_graph_output() and not old.is_graph_output():
            linear.attributes["gelu"] = ir.AttrInt64("gelu", 1)
            old.replace_all_uses_with(linear.outputs[0])


def fuse_gates(graph: Any) -> None:
    """silu(gate) * up before a Linear, both from one Split, becomes part of the Linear, which reads what was split."""
    import onnx_ir as ir

    for node in list(graph):
        if node.op_type != "Linear" or node.domain != "naiad":
            continue
        split = _gate_split(node.inputs[0])
        if split is not None:
            node.replace_input_with(0, split.inputs[0])
            node.attributes["gated"] = ir.AttrInt64("gated", 1)


def _gate_split(value: Any) -> Any | None:
    """The Split in two equal halves, `gate` and `up`, of which `value` is gate * sigmoid(gate) * up; else None."""
    product = value.producer()
    if product is None or product.op_type != "Mul" or len(value.uses()) != 1:
        return None
    for silu, up in (product.inputs, reversed(product.inputs)):
        split = up.producer()
        gate = _silu_argument(silu)
        if split is None or gate is None or split.op_type != "Split" or gate.producer() is not split:
            continue
        widths = [output.shape[-1] if output.shape is not None else None for output in split.outputs]
        if list(split.outputs) == [gate, up] and isinstance(widths[0], int) and widths[0] == widths[1]:
            return split if split.attributes["axis"].as_int() == -1 else None
    return None


def _silu_argument(value: Any) -> Any | None:
    """x if `value` is x * sigmoid(x), else None."""
    product = value.producer()
    if product is None or product.op_type != "Mul":
        return None
    for x, factor in (product.inputs, reversed(product.inputs)):
        sigmoid = factor.producer()
        if sigmoid is not None and sigmoid.op_type == "Sigmoid" and sigmoid.inputs[0] is x:
            return x
    return None


def _constant_weight(value: Any) -> tuple[Any | None, bool]:
    """The constant matrix behind a MatMul's right side and whether it is transposed first, as tied embeddings are."""
    producer = value.producer()
    transposed = producer is not None and producer.op_type == "Transpose"
    source = producer.inputs[0] if transposed else value
    if not source.is_initializer() or source.const_value is None or len(source.const_value.shape) != 2:
        return None, False
    return source, transposed
