"""Quantisation of GPT-2's Gemm layers, the rounding of weights without a grid, and the quality table."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from exporters import pack_linear
from exporters.compare_quality import Row, _whole_windows, table
from exporters.errors import ExportError
from exporters.paired_change import PairedChange, paired_change
from exporters.quantise import quantise
from exporters.split_gemm import split_gemms


def _gemm_model(weight: Any, **attributes: Any) -> onnx.ModelProto:
    outputs = weight.shape[0] if attributes.get("transB") else weight.shape[1]
    bias = np.arange(outputs, dtype=np.float32)
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="layer", **attributes)
    graph = helper.make_graph(
        [node],
        "one layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", outputs])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("transposed", [0, 1])
def test_a_gemm_becomes_a_product_and_an_addition_with_the_same_result(transposed: int) -> None:
    weight = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    model = _gemm_model(weight.T.copy() if transposed else weight, transB=transposed)
    split = onnx_ir.from_proto(model)
    split_gemms(split.graph)
    assert [node.op_type for node in split.graph][-2:] == ["MatMul", "Add"]
    x = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    expected, found = (
        ReferenceEvaluator(one).run(None, {"x": x})[0] for one in (model, onnx_ir.serde.serialize_model(split))
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_scaled_gemm_stays() -> None:
    model = onnx_ir.from_proto(_gemm_model(np.ones((8, 5), np.float32), alpha=2.0))
    split_gemms(model.graph)
    assert [node.op_type for node in model.graph] == ["Gemm"]


def test_a_gemm_is_quantised_with_its_bias() -> None:
    model = onnx_ir.from_proto(_gemm_model(np.ones((8, 5), np.float32)))
    assert quantise(model, 8, logits_width=0, min_weights=1) == 1
    (node,) = model.graph
    assert (node.op_type, len(node.inputs), node.outputs[0].name) == ("Linear", 3, "y")


def test_weights_without_a_grid_are_rounded_better_than_between_their_least_and_largest() -> None:
    values = torch.from_numpy(np.random.default_rng(1).normal(size=(64, 4, 32)).astype(np.float32))
    low, high = values.amin(-1, keepdim=True), values.amax(-1, keepdim=True)
    plain = pack_linear._error(values, pack_linear._round_between(values, low, (high - low) / 15))
    fitted = pack_linear._error(values, list(pack_linear._round_int4(values)))
    assert bool((fitted <= plain).all())
    assert float(fitted.sum()) < 0.9 * float(plain.sum())


def test_constant_blocks_are_rounded_to_themselves() -> None:
    values = torch.full((2, 1, 32), 0.5)
    codes, scales, minimums = pack_linear._round_int4(values)
    assert bool((codes * scales + minimums == values).all())


def _row(**text_changes: PairedChange) -> Row:
    return Row("int4", "int8", 210_000_000, 12_240, 37.8312, PairedChange(0.0039, 0.0011), text_changes, 0.95)


def test_the_table_has_one_line_for_each_row_and_a_column_for_each_of_several_texts() -> None:
    one, other = PairedChange(0.002, 0.001), PairedChange(-0.01, 0.0025)
    common = "| int4 | int8 | 210 | 12,240 | 37.831 | +0.39% ± 0.11%"
    assert table([_row(films=one)]).splitlines()[-1] == f"{common} | 95.0% |"
    both = table([_row(films=one, products=other)]).splitlines()
    assert both[0].endswith("| perplexity | change | films | products | same greedy token |")
    assert both[-1] == f"{common} | +0.20% ± 0.10% | -1.00% ± 0.25% | 95.0% |"


def test_a_change_is_as_sure_as_windows_agree_on_it_however_hard_they_are() -> None:
    hardness = np.array([2.0, 3.0, 5.0, 4.0])
    alike = paired_change(hardness + 0.01, hardness)
    assert alike.share == pytest.approx(np.expm1(0.01))
    assert alike.standard_error == pytest.approx(0.0, abs=1e-12)
    scattered = paired_change(hardness + np.array([0.03, -0.01, 0.03, -0.01]), hardness)
    assert scattered.share == pytest.approx(alike.share)
    assert scattered.standard_error == pytest.approx(1.01 * 0.0231 / 2, rel=0.01)


def test_texts_are_cut_to_whole_windows_and_none_is_shorter() -> None:
    read = _whole_windows({"a": list(range(10)), "b": list(range(20, 24))}, 4)
    assert read.ids == [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22, 23]
    assert read.windows == {"a": 2, "b": 1}
    with pytest.raises(ExportError, match="a has 10 tokens, less than one window of 11"):
        _whole_windows({"a": list(range(10))}, 11)
