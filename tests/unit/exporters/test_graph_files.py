"""Graphs whose weights did not all reach the disk are noticed."""

import errno
from pathlib import Path

import numpy as np
import onnx_ir
import pytest

from exporters.graph_files import GRAPH_DATA, require_whole, save_graph


def graph_with_weights() -> onnx_ir.Model:
    weights = onnx_ir.tensor(np.arange(4096, dtype=np.float32), name="weights")
    value = onnx_ir.Value(name="weights", const_value=weights)
    graph = onnx_ir.Graph([], [], nodes=[], initializers=[value], opset_imports={"": 20}, name="graph")
    return onnx_ir.Model(graph, ir_version=10)


def test_a_whole_graph_is_kept(tmp_path: Path) -> None:
    save_graph(graph_with_weights(), tmp_path / "graph")
    assert (tmp_path / "graph" / GRAPH_DATA).stat().st_size == 4 * 4096
    require_whole(tmp_path / "graph")


def test_weights_that_end_early_are_an_error_of_the_disk(tmp_path: Path) -> None:
    save_graph(graph_with_weights(), tmp_path / "graph")
    data = tmp_path / "graph" / GRAPH_DATA
    with data.open("r+b") as file:
        file.truncate(4 * 4096 - 1)
    with pytest.raises(OSError, match="No space left on device") as failed:
        require_whole(tmp_path / "graph")
    assert (failed.value.errno, failed.value.filename) == (errno.ENOSPC, str(data))
