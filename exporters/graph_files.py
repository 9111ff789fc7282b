"""Writes a graph, and notices when its weights did not all reach the disk."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

GRAPH, GRAPH_DATA = "model.onnx", "model.onnx.data"
# Tensors smaller than this stay inside model.onnx.
_INLINE_BYTES = 1024


def save_graph(graph: Any, folder: Path) -> None:
    """Writes an `onnx_ir.Model` as model.onnx and model.onnx.data. Raises OSError."""
    import onnx_ir

    folder.mkdir(exist_ok=True)
    onnx_ir.save(graph, folder / GRAPH, external_data=GRAPH_DATA, size_threshold_bytes=_INLINE_BYTES)
    require_whole(folder)


def require_whole(folder: Path) -> None:
    """Raises OSError if the file of the weights is shorter than the graph says.

    numpy writes an array through a buffer of the C library, and does not hear of it when the rest of that buffer finds
    no room (`tofile`, 2.4): on a full disk the file just ends early.
    """
    import onnx

    tensors = onnx.load(folder / GRAPH, load_external_data=False).graph.initializer
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors if tensor.external_data]
    needed_bytes = max((int(place["offset"]) + int(place["length"]) for place in places), default=0)
    data = folder / GRAPH_DATA
    if not needed_bytes or data.stat().st_size >= needed_bytes:
        return
    reason = errno.ENOSPC  # unless the system gives another one for what is missing
    try:
        with data.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, needed_bytes)
    except OSError as error:
        reason = error.errno or reason
    raise OSError(reason, os.strerror(reason), str(data))
