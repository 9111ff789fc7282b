"""Weight-only quantisation: MatMul with a constant weight becomes com.microsoft::MatMulNBits.

Blocks of 32 weights along the reduction share a scale and a zero point. Rounding is to nearest; the range of each 4-bit
block is shrunk when that lowers its squared error. Activations stay float in the graph; accuracy level 4 lets
ONNX Runtime multiply in 8-bit integers. Operator: github.com/microsoft/onnxruntime docs/ContribOperators.md.
"""

from __future__ import annotations

from typing import Any, Literal

from exporters.initializers import add_initializer

BLOCK_SIZE = 32
_ACCURACY_LEVEL_INT8 = 4
# Smaller products cost more in bookkeeping than they save in memory reads (classification heads, tiny layers).
_MIN_WEIGHTS = 4096
_SHRINKS = (1.0, 0.95, 0.9, 0.85, 0.8)


def quantise(model: Any, bits: Literal[4, 8], logits_width: int, min_weights: int = _MIN_WEIGHTS) -> int:
    """Quantises the constant right-hand sides of MatMuls of an `onnx_ir.Model` in place; returns how many.

    A product with `logits_width` columns, the output projection, gets 8 bits in any case: at 4 bits it costs more
    perplexity than any other.
    """
    import onnx_ir as ir
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    graph, quantised = model.graph, 0
    for node in list(graph):
        if node.op_type != "MatMul" or node.domain != "":
            continue
        weight, transposed = _constant_weight(node.inputs[1])
        if weight is None or weight.const_value.size < min_weights:
            continue
        matrix = weight.const_value.numpy()
        matrix = matrix.T if transposed else matrix
        rows, columns = (int(size) for size in matrix.shape)
        node_bits: Literal[4, 8] = 8 if columns == logits_width else bits
        packed, scales, zero_points = pack(matrix, node_bits)
        name = f"{weight.name}.transposed" if transposed else weight.name
        replacement = ir.node(
            "MatMulNBits",
            [
                node.inputs[0],
                add_initializer(graph, f"{name}.q{node_bits}", packed),
                add_initializer(graph, f"{name}.scales", scales),
                add_initializer(graph, f"{name}.zero_points", zero_points),
            ],
            {
                "K": rows, "N": columns, "bits": node_bits, "block_size": BLOCK_SIZE,
                "accuracy_level": _ACCURACY_LEVEL_INT8,
            },
            domain="com.microsoft",
            name=f"{node.name}.q{node_bits}",
        )  # fmt: skip
        old, new = node.outputs[0], replacement.outputs[0]
        new.name, new.type, new.shape = old.name, old.type, old.shape
        graph.insert_before(node, replacement)
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
        quantised += 1
    RemoveUnusedNodesPass()(model)  # with the weights that nothing reads any more
    model.opset_imports.setdefault("com.microsoft", 1)
    return quantised


def _constant_weight(value: Any) -> tuple[Any | None, bool]:
    """The constant matrix behind a MatMul's right side and whether it is transposed first, as tied embeddings are."""
    producer = value.producer()
    transposed = producer is not None and producer.op_type == "Transpose"
    source = producer.inputs[0] if transposed else value
    if not source.is_initializer() or source.const_value is None or len(source.const_value.shape) != 2:
        return None, False
    return source, transposed


def pack(weight: Any, bits: Literal[4, 8]) -> tuple[Any, Any, Any]:
    """[K, N] float -> packed uint8 [N, blocks, 32 * bits / 8], scales float [N, blocks], zero points uint8 [N, ...]."""
    import numpy as np
    import torch

    k, n = weight.shape
    blocks = -(-k // BLOCK_SIZE)
    values = torch.nn.functional.pad(
        torch.from_numpy(np.array(weight.T, dtype=np.float32)), (0, blocks * BLOCK_SIZE - k)
    )
    codes, scales, zero_points = _round_blocks(values.reshape(n, blocks, BLOCK_SIZE).float(), 2**bits - 1, bits == 4)
    codes, zero_points = codes.numpy(), zero_points.numpy()
    if bits == 4:
        codes = codes[..., 0::2] | codes[..., 1::2] << 4
        zero_points = np.pad(zero_points, ((0, 0), (0, blocks % 2)))
        zero_points = zero_points[:, 0::2] | zero_points[:, 1::2] << 4
    return codes, scales.numpy(), zero_points


def _round_blocks(values: Any, levels: int, search: bool) -> tuple[Any, Any, Any]:
    """Codes, scales and zero points of blocks [N, blocks, 32], in `levels` steps from least to largest value."""
    import torch

    low = values.amin(-1, keepdim=True).clamp(max=0.0)
    high = values.amax(-1, keepdim=True).clamp(min=0.0)
    best_error = best = None
    for shrink in _SHRINKS if search else (1.0,):
        scale = ((high - low) * shrink / levels).clamp(min=1e-12)
        zero_point = (-low * shrink / scale).round().clamp(0, levels)
        codes = (values / scale + zero_point).round().clamp(0, levels)
        error = ((codes - zero_point) * scale - values).square().sum(-1, keepdim=True)
        if best is None:
            best, best_error = (codes, scale, zero_point), error
            continue
        better = error < best_error
        best = tuple(torch.where(better, new, old) for new, old in zip((codes, scale, zero_point), best, strict=True))
        best_error = torch.where(better, error, best_error)
    assert best is not None
    codes, scale, zero_point = best
    return codes.to(torch.uint8), scale.squeeze(-1), zero_point.squeeze(-1).to(torch.uint8)
