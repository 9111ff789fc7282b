"""Gives a decoder graph an 8-bit KV cache.

Only the declared types of the caches change: the operator rounds and reads rows of either type, and the weights beside
the graph stay where they are. Rows: core/kernels/quantised_row.h.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from exporters.decoder_graph import DecoderShape


def use_int8_cache(graph: Path, shape: DecoderShape) -> DecoderShape:
    """Rewrites the file `graph`, whose caches are float, and returns the decoder's new shape."""
    import onnx

    int8_shape = replace(shape, kv_cache_type="int8")
    model = onnx.load(graph, load_external_data=False)
    for value in (*model.graph.input, *model.graph.output):
        if value.name.startswith(("key_cache", "value_cache")):
            tensor = value.type.tensor_type
            tensor.elem_type = onnx.TensorProto.UINT8
            tensor.shape.dim[3].dim_value = int8_shape.cache_row_elements
    onnx.save(model, graph)
    return int8_shape
