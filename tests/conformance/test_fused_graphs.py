"""Which nodes are left of real architectures: what fits the operators is in them, what does not keeps its own nodes."""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from exporters.decoder_graph import decoder_shape, export_decoder
from exporters.fuse_attention import fuse_attention
from exporters.loading import load_model
from exporters.optimise import optimise
from exporters.quantise import quantise
from exporters.source import find_source
from tests.conformance.tiny_checkpoints import VOCABULARY_SIZE, save_tiny

pytestmark = pytest.mark.conformance


def _graph(tmp_path: Path, model_type: str, quantised: bool = False) -> Any:
    model = load_model(find_source(str(save_tiny(tmp_path / model_type, model_type, "generate"))), "generate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = export_decoder(model, decoder_shape(model.config))
    optimise(graph)
    fuse_attention(graph)
    if quantised:
        quantise(graph, 8, VOCABULARY_SIZE, min_weights=0)
    return graph.graph


def _attention(graph: Any) -> list[Any]:
    return [node for node in graph if node.op_type == "PagedAttention"]


def test_a_quantised_llama_has_five_nodes_a_layer(tmp_path: Path) -> None:
    counts = Counter(node.op_type for node in _graph(tmp_path, "llama", quantised=True) if node.op_type != "Constant")
    assert (counts.pop("Linear"), counts.pop("PagedAttention")) == (2 * 4 + 1, 2)
    # Embedding, the rows whose logits are wanted, and the angles of all layers.
    assert counts == {"Gather": 3, "Reshape": 1, "Unsqueeze": 3, "Cast": 1, "Mul": 1, "Cos": 1, "Sin": 1}


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "mistral", "gemma2"])
def test_attention_takes_the_packed_product_and_the_angles_of_unquantised_graphs_too(
    tmp_path: Path, model_type: str
) -> None:
    graph = _graph(tmp_path, model_type)
    assert not [node for node in graph if node.op_type == "RotaryEmbedding"]
    for node in _attention(graph):
        assert node.inputs[1] is node.inputs[2] is None
        assert node.inputs[0].producer().op_type in {"MatMul", "Add"}
        assert [value.producer().op_type for value in node.inputs[8:]] == ["Cos", "Sin"]


def test_norms_of_query_and_key_leave_them_apart_but_the_operator_turns_them(tmp_path: Path) -> None:
    graph = _graph(tmp_path, "qwen3")
    assert not [node for node in graph if node.op_type == "RotaryEmbedding"]
    assert all(None not in node.inputs and len(node.inputs) == 10 for node in _attention(graph))


def test_a_rotation_of_the_front_of_each_head_is_turned_by_the_operator(tmp_path: Path) -> None:
    graph = _graph(tmp_path, "gpt_neox")
    assert not [node for node in graph if node.op_type == "RotaryEmbedding"]
    assert all(node.inputs[8].shape[-1] == 2 for node in _attention(graph))


def test_without_rotation_the_packed_product_goes_in_alone(tmp_path: Path) -> None:
    for node in _attention(_graph(tmp_path, "gpt2")):
        assert node.inputs[1] is None
        assert len(node.inputs) == 8
        assert len(node.outputs[0].shape) == len(node.inputs[0].shape) == 2


def test_a_rotation_between_slices_keeps_its_nodes(tmp_path: Path) -> None:
    graph = _graph(tmp_path, "phi")
    assert len([node for node in graph if node.op_type == "RotaryEmbedding"]) == 4
    assert all(None not in node.inputs and len(node.inputs) == 8 for node in _attention(graph))


@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma2", "gpt_neox"])
def test_rows_without_logits_stop_behind_the_last_attention(tmp_path: Path, model_type: str) -> None:
    graph = _graph(tmp_path, model_type)
    sources = [node.inputs[0] for node in graph if node.op_type == "Gather" and node.inputs[1].name == "logit_rows"]
    last = _attention(graph)[-1].outputs[0]
    assert any(source is last or source.producer().inputs[0] is last for source in sources)
    assert not [node for node in graph if node.op_type == "GatherND"]
    logits = graph.outputs[0]
    assert logits.name == "logits"
    assert logits.producer().op_type in {"MatMul", "Mul"}
