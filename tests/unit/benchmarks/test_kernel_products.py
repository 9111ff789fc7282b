"""The table of products: ratios within a round, copies of the weights, graphs that ONNX accepts."""

from __future__ import annotations

import pytest

from benchmarks.kernel_products import DYNAMIC_INT8, FP32, KINDS, SHAPES, Kind, Shape, copies_of, graph_of, heads, ratio
from benchmarks.kernel_products import row_of as row


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The machine was half as fast in the second round, for both.
    assert ratio([10.0, 20.0, 10.0], [30.0, 60.0, 20.0]) == pytest.approx(3.0)


def test_row_has_a_cell_for_each_head() -> None:
    rounds = {kind.name: [float(10 * (at + 1))] * 3 for at, kind in enumerate(KINDS)}
    cells = row(SHAPES[0], 8, rounds)
    assert len(cells) == len(heads())
    assert cells == ["query, key, value", "8", "10.0", "20.0", "2.00", "30.0", "40.0", "1.33", "50.0", "5.00"]


def test_small_weights_are_stored_until_no_cache_holds_them() -> None:
    assert copies_of(1 << 20) == 96
    assert copies_of(200 << 20) == 1


@pytest.mark.parametrize("kind", [DYNAMIC_INT8, FP32])
def test_graph_has_a_node_and_an_output_for_each_copy(kind: Kind) -> None:
    import onnx

    content, copies = graph_of(kind, Shape("large", 1024, 16384))
    model = onnx.load_model_from_string(content)
    assert [node.op_type for node in model.graph.node] == [kind.operator] * copies
    assert len(model.graph.output) == copies
