"""The rewrite of a decoder graph for CUDA, on graphs of a few nodes; and the options of an export for CUDA."""

from __future__ import annotations

import argparse

import numpy as np
import onnx_ir as ir
import pytest

from exporters import cli
from exporters.cuda_graph import check_cuda, to_cuda
from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.options import CudaOptions
from exporters.triton_config import triton_config
from tests.synthetic.graph_builder import FLOAT, INT64, GraphBuilder
from tests.synthetic.make_decoder import DecoderSpec, build_graph

_SHAPE = DecoderShape(2, 2, 8, 64, 512)


def _synthetic() -> ir.Model:
    """The synthetic decoder, with the types that a traced graph has."""
    model = ir.from_proto(build_graph(DecoderSpec()))
    for node in model.graph:
        target = node.attributes.get("to")
        for output in node.outputs:
            if target is not None:
                output.dtype = ir.DataType(target.as_int())
            elif node.inputs[0] is not None:
                output.dtype = node.inputs[0].dtype
    return model


def test_attention_keeps_its_operands_and_attributes_under_onnx_runtimes_name() -> None:
    before = [node for node in _synthetic().graph if node.domain == "naiad"]
    model = _synthetic()
    to_cuda(model, _SHAPE, CudaOptions())
    after = [node for node in model.graph if node.op_type == "PagedAttention"]
    assert len(after) == len(before) == 2
    for old, new in zip(before, after, strict=True):
        assert new.domain == "com.microsoft"
        assert [v.name for v in new.inputs if v][3:] == [v.name for v in old.inputs if v][3:]
        assert {name: a.value for name, a in new.attributes.items()} == {n: a.value for n, a in old.attributes.items()}
    assert "naiad" not in model.opset_imports


def test_caches_are_half_precision_with_positions_before_heads() -> None:
    model = _synthetic()
    shape = to_cuda(model, _SHAPE, CudaOptions("bf16", 32))
    assert shape.kv_block_tokens == 32
    caches = [value for value in (*model.graph.inputs, *model.graph.outputs) if "_cache" in str(value.name)]
    assert len(caches) == 8
    for value in caches:
        assert value.dtype == ir.DataType.BFLOAT16
        assert value.shape is not None
        assert list(value.shape)[1:] == [32, 2, 8]


def test_logits_stay_float32_under_their_name() -> None:
    model = _synthetic()
    to_cuda(model, _SHAPE, CudaOptions())
    (logits,) = (value for value in model.graph.outputs if value.name == "logits")
    assert logits.dtype == ir.DataType.FLOAT


def _angles() -> GraphBuilder:
    """Positions times a frequency, added to an embedding that is looked up by the same positions."""
    g = GraphBuilder()
    positions = g.input("position_ids", INT64, ["tokens"])
    angle = g.node("Sin", g.node("Mul", g.cast(positions, FLOAT), g.constant(0.25, np.float32)))
    looked_up = g.node("Gather", g.constant([1.0, 2.0], np.float32), positions)
    g.node("Add", angle, looked_up, output="sum")
    g.output("sum", FLOAT, ["tokens"])
    return g


def _with_attention(g: GraphBuilder) -> ir.Model:
    model = ir.from_proto(g.model("angles"))
    attention = ir.node("PagedAttention", [], domain="naiad", name="attention")
    attention.outputs[0].name = "unused"
    model.graph.append(attention)
    for node in model.graph:
        for output in node.outputs:
            output.dtype = ir.DataType.FLOAT
    return model


def test_what_comes_from_positions_alone_keeps_float32_until_it_meets_half_precision() -> None:
    model = _with_attention(_angles())
    to_cuda(model, _SHAPE, CudaOptions())
    types = {node.op_type: node.outputs[0].dtype for node in model.graph if node.op_type != "Cast"}
    assert types["Mul"] == types["Sin"] == ir.DataType.FLOAT
    assert types["Gather"] == types["Add"] == ir.DataType.FLOAT16


def test_a_constant_that_fp16_cannot_hold_is_refused_and_bf16_offered() -> None:
    g = _angles()
    g.node("Mul", "sum", g.constant(1e6, np.float32), output="large")
    g.output("large", FLOAT, ["tokens"])
    with pytest.raises(ExportError, match="too large for fp16: use --precision bf16"):
        to_cuda(_with_attention(g), _SHAPE, CudaOptions("fp16"))
    to_cuda(_with_attention(g), _SHAPE, CudaOptions("bf16"))


def test_a_graph_without_paged_attention_is_refused() -> None:
    with pytest.raises(ExportError, match="no naiad::PagedAttention"):
        to_cuda(ir.from_proto(_angles().model("angles")), _SHAPE, CudaOptions())


@pytest.mark.parametrize("tokens", [0, 8, 24, 2048])
def test_blocks_that_the_operator_does_not_take_are_refused(tokens: int) -> None:
    with pytest.raises(ExportError, match=f"kv_block_tokens is {tokens}; on cuda it must be a power of two from 16"):
        check_cuda(_SHAPE, CudaOptions(kv_block_tokens=tokens))


@pytest.mark.parametrize("head_size", [20, 264])
def test_heads_that_the_operator_does_not_take_are_refused(head_size: int) -> None:
    with pytest.raises(ExportError, match=f"heads have size {head_size}"):
        check_cuda(DecoderShape(2, 2, head_size, 64, 512), CudaOptions())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--precision", "bf16"], "--precision is for --device cuda"),
        (["--kv-block-tokens", "32"], "--kv-block-tokens is for --device cuda"),
        (["--device", "cuda", "--weights", "int8"], "--weights int8 is for --device cpu; choose --precision for cuda"),
    ],
)
def test_options_of_the_other_device_are_refused(
    capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    assert cli.run(parser.parse_args(["/no/such/model", "--name", "x", *options])) == 2
    assert capsys.readouterr().err == f"naiad export: {message}\n"


def test_a_model_for_cuda_names_one_gpu_in_its_configuration() -> None:
    assert "kind: KIND_GPU, gpus: [ 0 ]" in triton_config("chat", "generate", 0, {}, "cuda")
    assert "KIND_CPU" in triton_config("chat", "generate", 0, {})
