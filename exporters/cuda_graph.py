"""Turns a decoder graph for the CPU into the same graph for ONNX Runtime's CUDA provider.

One rewrite over the verified float32 graph: `naiad::PagedAttention` becomes `com.microsoft::PagedAttention`, whose
inputs are the same in number, order and meaning; a block of the cache holds its positions before its heads; and floats
become fp16 or bf16. Two places keep float32: what is computed from positions (angles of rotary embeddings, which half
precision would ruin after a few thousand tokens), and the logits, which are cast at the end. Operator:
github.com/microsoft/onnxruntime docs/ContribOperators.md.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.options import CudaOptions, Precision

_MIN_BLOCK_TOKENS, _MAX_BLOCK_TOKENS = 16, 1024
_HEAD_SIZE_MULTIPLE, _MAX_HEAD_SIZE = 8, 256
_ATTENTION_DOMAIN = "com.microsoft"
_ATTENTION_INPUTS = 8  # Without the angles, which that operator looks for in tables of another kind.


def check_cuda(shape: DecoderShape, options: CudaOptions) -> None:
    """Raises ExportError when the operator cannot run a decoder of this shape."""
    tokens = options.kv_block_tokens
    if not _MIN_BLOCK_TOKENS <= tokens <= _MAX_BLOCK_TOKENS or tokens & (tokens - 1):
        raise ExportError(
            f"kv_block_tokens is {tokens}; on cuda it must be a power of two from {_MIN_BLOCK_TOKENS} to "
            f"{_MAX_BLOCK_TOKENS}"
        )
    if shape.head_size % _HEAD_SIZE_MULTIPLE or shape.head_size > _MAX_HEAD_SIZE:
        raise ExportError(
            f"its heads have size {shape.head_size}; PagedAttention on cuda needs a multiple of {_HEAD_SIZE_MULTIPLE} "
            f"up to {_MAX_HEAD_SIZE}"
        )


def to_cuda(model: Any, shape: DecoderShape, options: CudaOptions) -> DecoderShape:
    """Rewrites an `onnx_ir.Model` in place and returns its new shape. Raises ExportError if that is not possible."""
    check_cuda(shape, options)
    _replace_attention(model)
    _HalfPrecision(model, options.precision).convert()
    shape = replace(shape, kv_block_tokens=options.kv_block_tokens)
    for value in (*model.graph.inputs, *model.graph.outputs):
        if _is_cache(value):
            _relayout(value, shape)
    return shape


def _is_cache(value: Any) -> bool:
    return str(value.name).startswith(("key_cache", "value_cache"))


def _relayout(value: Any, shape: DecoderShape) -> None:
    """[blocks, kv_heads, block, head] -> [blocks, block, kv_heads, head]."""
    import onnx_ir as ir

    blocks = value.shape[0] if value.shape is not None else "num_blocks"
    value.shape = ir.Shape([blocks, shape.kv_block_tokens, shape.num_kv_heads, shape.head_size])


def _replace_attention(model: Any) -> None:
    replaced = 0
    for node in model.graph:
        if node.domain == "naiad" and node.op_type != "PagedAttention":
            raise ExportError(f"{node.op_type} has no counterpart on cuda")
        if node.domain == "naiad" and (len(node.inputs) > _ATTENTION_INPUTS or None in node.inputs):
            raise ExportError("its attention splits and turns what the product gives, as the graph for cuda must not")
        if node.domain == "naiad":
            node.domain = _ATTENTION_DOMAIN
            replaced += 1
    if not replaced:
        raise ExportError("the graph has no naiad::PagedAttention to replace")
    model.opset_imports.pop("naiad", None)
    model.opset_imports[_ATTENTION_DOMAIN] = 1


class _HalfPrecision:
    """Changes the type of a graph's floats.

    A node keeps float32 when its floats come from integers alone, by way of constants at most: that is what positions
    give. A node that looks constants up with integers (embeddings) or mixes both kinds works in half precision.
    """

    def __init__(self, model: Any, precision: Precision) -> None:
        import onnx_ir as ir
        from onnx_ir.passes import common

        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        self._graph = model.graph
        self._precision = precision
        self._half = ir.DataType.FLOAT16 if precision == "fp16" else ir.DataType.BFLOAT16
        self._float = ir.DataType.FLOAT
        # float32 value -> its counterpart in half precision
        self._counterparts: dict[Any, Any] = {}
        self._kept_float: set[Any] = set()

    def convert(self) -> None:
        for value in self._graph.inputs:
            if value.dtype == self._float:
                value.dtype = self._half
        for node in list(self._graph):
            if any(attribute.type.name in {"GRAPH", "GRAPHS"} for attribute in node.attributes.values()):
                raise ExportError(f"{node.op_type} holds a graph of its own, which cannot be made for cuda")
            if self._keeps_float(node):
                self._kept_float.update(node.outputs)
            else:
                self._convert_node(node)
        self._cast_outputs()
        self._drop_unused_constants()

    def _keeps_float(self, node: Any) -> bool:
        floats = [value for value in node.inputs if value is not None and value.dtype == self._float]
        computed = [value for value in floats if not value.is_initializer()]
        mixes_half = any(value is not None and value.dtype == self._half for value in node.inputs)
        return not mixes_half and all(value in self._kept_float for value in computed) and bool(computed or not floats)

    def _convert_node(self, node: Any) -> None:
        import onnx_ir as ir

        for index, value in enumerate(node.inputs):
            if value is not None and value.dtype == self._float:
                node.replace_input_with(index, self._counterpart(value, node))
        for output in node.outputs:
            if output.dtype == self._float:
                output.dtype = self._half
            elif output.dtype is None and output.name:
                raise ExportError(f"{node.op_type} {output.name} has no known type, so it cannot be made for cuda")
        target = node.attributes.get("to") if node.op_type == "Cast" else None
        if target is not None and target.as_int() == int(self._float):
            node.attributes["to"] = ir.AttrInt64("to", int(self._half))

    def _counterpart(self, value: Any, before: Any) -> Any:
        """The constant `value` converted, or a cast of it; made once."""
        import onnx_ir as ir

        if value not in self._counterparts:
            if value.is_initializer():
                self._counterparts[value] = self._converted_constant(value)
            else:
                cast = ir.node("Cast", [value], {"to": int(self._half)}, name=f"{value.name}.half")
                self._graph.insert_before(before, cast)
                cast.outputs[0].name, cast.outputs[0].shape = f"{value.name}.half.out", value.shape
                cast.outputs[0].dtype = self._half
                self._counterparts[value] = cast.outputs[0]
        return self._counterparts[value]

    def _converted_constant(self, value: Any) -> Any:
        import numpy as np
        import onnx_ir as ir

        array = value.const_value.numpy()
        with np.errstate(over="ignore"):
            half = array.astype(self._half.numpy())
        if np.isinf(half.astype(np.float32)).sum() != np.isinf(array).sum():
            raise ExportError(
                f"the constant {value.name} is too large for {self._precision}: "
                + ("use --precision bf16" if self._precision == "fp16" else "it cannot be served on cuda")
            )
        tensor = ir.tensor(half, dtype=self._half, name=f"{value.name}.half")
        made = ir.Value(
            name=tensor.name, shape=ir.Shape(array.shape), type=ir.TensorType(self._half), const_value=tensor
        )
        self._graph.register_initializer(made)
        return made

    def _cast_outputs(self) -> None:
        """Logits leave as float32, so that nothing behind the graph has to know its precision."""
        import onnx_ir as ir

        for index, value in enumerate(self._graph.outputs):
            if _is_cache(value) or value.dtype != self._half:
                continue
            cast = ir.node("Cast", [value], {"to": int(self._float)}, name=f"{value.name}.float")
            output = cast.outputs[0]
            output.name, value.name = value.name, f"{value.name}.half"
            output.shape, output.dtype = value.shape, self._float
            self._graph.append(cast)
            self._graph.outputs[index] = output

    def _drop_unused_constants(self) -> None:
        for value in list(self._graph.initializers.values()):
            if not value.uses() and not value.is_graph_output():
                del self._graph.initializers[value.name]
