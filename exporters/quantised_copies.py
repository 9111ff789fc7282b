"""Copies of a decoder's graph in other precisions, to be compared with it, and how large they are."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal

from exporters.decoder_graph import DecoderShape
from exporters.quantise import quantise


def copy_graph(graph: Path, folder: Path) -> Path:
    """The same graph in a new folder. A true copy: the reader refuses weights that have a second hard link."""
    shutil.copytree(graph.parent, folder)
    return folder / graph.name


def quantised_copy(graph: Path, bits: Literal[4, 8], vocabulary_size: int, folder: Path) -> Path:
    """The graph with its products quantised, in a new folder."""
    import onnx_ir

    own = copy_graph(graph, folder.with_name(f"{folder.name}.source"))
    model = onnx_ir.load(own)
    quantise(model, bits, vocabulary_size)
    folder.mkdir()
    onnx_ir.save(model, folder / "model.onnx", external_data="model.onnx.data")
    del model  # Its weights are mapped from the copy.
    shutil.rmtree(own.parent)
    return folder / "model.onnx"


def file_bytes(graph: Path) -> int:
    """The graph and the weights beside it."""
    return sum(path.stat().st_size for path in graph.parent.iterdir())


def kv_token_bytes(shape: DecoderShape) -> int:
    """Memory that one token takes in the KV cache, over all layers."""
    row_bytes = shape.cache_row_elements * (1 if shape.kv_cache_type == "int8" else 4)
    return 2 * shape.num_layers * shape.num_kv_heads * row_bytes
