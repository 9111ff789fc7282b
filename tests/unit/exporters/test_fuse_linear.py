"""Norms and residuals move into naiad::Linear only where nothing else needs what they gave."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

pytest.importorskip("torch")

from exporters.fuse_linear import fuse_norms_and_residuals

_WIDTH = 8


class _Graph:
    """Nodes over one input `x` [1, T, 8]; the values of `outputs` leave the graph."""

    def __init__(self) -> None:
        self.x = ir.Value(name="x", shape=ir.Shape([1, "T", _WIDTH]), type=ir.TensorType(ir.DataType.FLOAT))
        self.constants: list[ir.Value] = []
        self.nodes: list[ir.Node] = []

    def constant(self, name: str, *shape: int) -> ir.Value:
        tensor = ir.tensor(np.ones(shape, np.float32), name=name)
        self.constants.append(
            ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        )
        return self.constants[-1]

    def node(
        self, op: str, *inputs: ir.Value, domain: str = "", outputs: int = 1, **attributes: int | float
    ) -> ir.Node:
        node = ir.node(op, list(inputs), attributes, domain=domain, num_outputs=outputs, name=f"n{len(self.nodes)}")
        for index, output in enumerate(node.outputs):
            output.name, output.type, output.shape = f"{node.name}.{index}", self.x.type, self.x.shape
        self.nodes.append(node)
        return node

    def linear(self, source: ir.Value, gated: int = 0) -> ir.Node:
        weight = self.constant(f"w{len(self.nodes)}", 1)
        return self.node("Linear", source, weight, domain="naiad", K=_WIDTH, N=_WIDTH, gated=gated)

    def residual_norm(self, first: ir.Value, second: ir.Value) -> ir.Node:
        gain = self.constant(f"g{len(self.nodes)}", _WIDTH)
        return self.node(
            "SkipSimplifiedLayerNormalization", first, second, gain, domain="com.microsoft", outputs=4, epsilon=0.5
        )

    def fused(self, *outputs: ir.Value) -> dict[str, list[ir.Node]]:
        from onnx_ir.passes.common import RemoveUnusedNodesPass

        graph = ir.Graph([self.x], list(outputs), nodes=self.nodes, initializers=self.constants, opset_imports={"": 23})
        fuse_norms_and_residuals(graph)
        RemoveUnusedNodesPass()(ir.Model(graph, ir_version=10))
        found: dict[str, list[ir.Node]] = {}
        for node in graph:
            found.setdefault(node.op_type, []).append(node)
        return found


def test_between_two_products_residual_and_norm_become_part_of_both() -> None:
    graph = _Graph()
    first = graph.linear(graph.x)
    norm = graph.residual_norm(graph.x, first.outputs[0])
    second = graph.linear(norm.outputs[0])
    last = graph.node("Add", norm.outputs[3], second.outputs[0])
    end = graph.node("Identity", last.outputs[0])
    gain = norm.inputs[2]
    found = graph.fused(end.outputs[0])
    assert sorted(found) == ["Identity", "Linear"]
    assert first.inputs[4] is graph.x
    assert second.inputs[0] is first.outputs[0]
    assert second.inputs[3] is gain
    assert second.attributes["epsilon"].as_float() == 0.5
    assert second.inputs[4] is first.outputs[0]


def test_a_product_that_something_else_reads_keeps_its_residual_addition() -> None:
    graph = _Graph()
    first = graph.linear(graph.x)
    norm = graph.residual_norm(graph.x, first.outputs[0])
    second = graph.linear(norm.outputs[0])
    found = graph.fused(second.outputs[0], graph.node("Neg", first.outputs[0]).outputs[0])
    assert sorted(found) == ["Add", "Linear", "Neg"]
    assert second.inputs[0] is found["Add"][0].outputs[0]


def test_a_norm_that_something_else_reads_stays_a_node_behind_the_sum() -> None:
    graph = _Graph()
    first = graph.linear(graph.x)
    norm = graph.residual_norm(first.outputs[0], graph.x)
    second = graph.linear(norm.outputs[0])
    found = graph.fused(second.outputs[0], graph.node("Neg", norm.outputs[0]).outputs[0])
    assert sorted(found) == ["Linear", "Neg", "RMSNormalization"]
    assert first.inputs[4] is graph.x
    assert second.inputs[0] is found["RMSNormalization"][0].outputs[0]


@pytest.mark.parametrize("gated", [0, 1])
def test_only_a_product_of_plain_activations_takes_a_norm(gated: int) -> None:
    graph = _Graph()
    norm = graph.node("RMSNormalization", graph.x, graph.constant("gain", _WIDTH), axis=-1, epsilon=0.5)
    found = graph.fused(graph.linear(norm.outputs[0], gated).outputs[0])
    assert ("RMSNormalization" in found) == bool(gated)


def test_a_sum_without_products_stays_as_it_is() -> None:
    graph = _Graph()
    norm = graph.residual_norm(graph.x, graph.node("Neg", graph.x).outputs[0])
    found = graph.fused(norm.outputs[0], norm.outputs[3])
    assert sorted(found) == ["Neg", "SkipSimplifiedLayerNormalization"]
