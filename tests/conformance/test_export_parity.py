"""Exports tiny checkpoints of each supported architecture; the export's comparison with transformers must hold."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
import pytest
import torch
import transformers
from tokenizers import Tokenizer

from exporters import pipeline, verify_kv_cache
from exporters.errors import ExportError
from exporters.options import ExportOptions, KvCacheChoice, TaskChoice, Weights
from exporters.pipeline import export_checkpoint
from exporters.runtime import find_ops_library, open_session, run_encoder
from tests.conformance.tiny_checkpoints import DECODERS, ENCODERS, LABELS, VOCABULARY_SIZE, save_tiny

pytestmark = pytest.mark.conformance


def _export(
    tmp_path: Path,
    checkpoint: Path,
    task: TaskChoice = "auto",
    weights: Weights = "fp32",
    kv_cache: KvCacheChoice = "auto",
) -> dict[str, Any]:
    repository = tmp_path / "repository"
    export_checkpoint(ExportOptions(str(checkpoint), "tiny", repository, task, weights, kv_cache))
    content: dict[str, Any] = json.loads((repository / "tiny" / "naiad.json").read_text())
    return content


@pytest.mark.parametrize("model_type", sorted(DECODERS))
def test_a_decoder_continues_as_transformers_does_alone_and_packed(tmp_path: Path, model_type: str) -> None:
    manifest = _export(tmp_path, save_tiny(tmp_path / "checkpoint", model_type, "generate"))
    assert manifest["task"] == "generate"
    assert manifest["architecture"] == model_type
    assert manifest["decoder"]["num_layers"] == 2
    assert manifest["limits"] == {"context_length_tokens": 256, "vocabulary_size": VOCABULARY_SIZE}
    assert manifest["parity"]["greedy_tokens_equal"] is True
    assert len(manifest["parity"]["prompt_tokens"]) >= 5
    assert manifest["parity"]["new_tokens"] == 64
    assert manifest["parity"]["max_abs_logit_error"] < 1e-3


@pytest.mark.parametrize("task", ["embed", "classify", "classify_tokens"])
@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_an_encoder_computes_what_transformers_does_alone_and_packed(
    tmp_path: Path, model_type: str, task: str
) -> None:
    manifest = _export(tmp_path, save_tiny(tmp_path / "checkpoint", model_type, task))
    assert manifest["task"] == task
    assert manifest["parity"]["max_abs_error_packed"] <= 1e-4
    assert manifest.get("labels") == LABELS.get(task)


PAIRS = [
    ("Where is the harbour?", "The harbour lies east of the old town."),
    ("Who?", "Nobody knows who built the mill, and nobody has asked for a very long time."),
    ("A question that is much longer than its only answer", "No."),
]


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_pairs_as_they_are_served_get_the_scores_that_transformers_gives(tmp_path: Path, model_type: str) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", model_type, "classify_pairs")
    manifest = _export(tmp_path, checkpoint)
    assert (manifest["task"], manifest["labels"]) == ("classify", ["relevant"])
    assert manifest["encoder"]["activation"] == "sigmoid"
    entry = tmp_path / "repository" / "tiny"
    encoded = Tokenizer.from_file(str(entry / "tokenizer.json")).encode_batch(PAIRS)
    types = [pair.type_ids for pair in encoded] if manifest["encoder"]["uses_token_type_ids"] else None
    got = run_encoder(
        open_session(entry / "1" / "model.onnx", find_ops_library(None)), [pair.ids for pair in encoded], types
    )
    model = transformers.AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint)
    with torch.no_grad():
        expected = [model(**tokenizer(*pair, return_tensors="pt")).logits[0].numpy() for pair in PAIRS]
    np.testing.assert_allclose(got, expected, atol=1e-4, rtol=0)


_WIDE = {"hidden_size": 64, "intermediate_size": 128}
_SIZES = {"distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128}}


@pytest.mark.parametrize("model_type", sorted(ENCODERS))
def test_an_encoder_in_eight_bits_gives_a_text_the_same_bits_in_any_company(tmp_path: Path, model_type: str) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", model_type, "embed", **_SIZES.get(model_type, _WIDE))
    manifest = _export(tmp_path, checkpoint, weights="int8")
    assert manifest["quality"]["min_cosine"] >= 0.99
    graph = tmp_path / "repository" / "tiny" / "1" / "model.onnx"
    attention = [node for node in onnx.load(graph).graph.node if node.op_type == "PackedAttention"]
    assert [node.input[1] for node in attention] == ["", ""], "query, key and value are one product"
    session = open_session(graph, find_ops_library(None))
    chance = np.random.default_rng(3)
    texts = [chance.integers(3, VOCABULARY_SIZE, length).tolist() for length in (1, 2, 9, 40, 5, 100, 17)]
    types = [[0] * len(text) for text in texts] if manifest["encoder"]["uses_token_type_ids"] else None
    packed = run_encoder(session, texts, types)
    alone = [run_encoder(session, [text], [types[i]] if types else None) for i, text in enumerate(texts)]
    np.testing.assert_array_equal(packed, np.concatenate(alone))


@pytest.mark.parametrize("model_type", ["bloom", "gptj"])
def test_a_decoder_whose_attention_cannot_be_replaced_is_refused(tmp_path: Path, model_type: str) -> None:
    sizes = (
        {"n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 256, "rotary_dim": 4} if model_type == "gptj" else {}
    )
    checkpoint = save_tiny(tmp_path / "checkpoint", model_type, "generate", **sizes)
    with pytest.raises(ExportError):
        _export(tmp_path, checkpoint)
    assert list((tmp_path / "repository").iterdir()) == []
    assert not list(tmp_path.glob(".staging-*"))


@pytest.mark.parametrize(("weights", "limit"), [("int8", 0.05), ("int4", 0.25)])
def test_quantised_weights_cost_little_perplexity_and_the_manifest_says_how_much(
    tmp_path: Path, weights: Weights, limit: float
) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", "llama", "generate", hidden_size=128, intermediate_size=256)
    manifest = _export(tmp_path, checkpoint, weights=weights)
    assert manifest["precision"] == weights
    assert manifest["decoder"]["kv_cache_type"] == manifest["quality"]["kv_cache"]["type"] == "int8"
    assert manifest["quality"]["quantised_products"] == 9
    assert abs(manifest["quality"]["perplexity_increase"]) < limit
    assert not (tmp_path / "repository" / "tiny" / ".fp32").exists()


@pytest.mark.parametrize("weights", ["fp32", "int8"])
def test_an_8_bit_cache_costs_little_perplexity_and_the_manifest_says_how_much(
    tmp_path: Path, weights: Weights
) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", "llama", "generate", hidden_size=128, intermediate_size=256)
    manifest = _export(tmp_path, checkpoint, weights=weights, kv_cache="int8")
    assert manifest["decoder"]["kv_cache_type"] == "int8"
    report = manifest["quality"]["kv_cache"]
    assert abs(report["perplexity_increase"]) < 0.01
    assert report["perplexity_int8"] != report["perplexity_float"] == manifest["quality"][f"perplexity_{weights}"]
    assert 0.9 < report["greedy_token_agreement"] <= 1.0
    graph = onnx.load(tmp_path / "repository" / "tiny" / "1" / "model.onnx", load_external_data=False).graph
    caches = [value.type.tensor_type for value in (*graph.input, *graph.output) if "_cache" in value.name]
    assert len(caches) == 8
    assert {(cache.elem_type, cache.shape.dim[3].dim_value) for cache in caches} == {(onnx.TensorProto.UINT8, 32 + 4)}


@pytest.mark.parametrize(("weights", "kv_cache"), [("fp32", "auto"), ("int8", "float")])
def test_float_caches_leave_the_manifest_as_it_was(tmp_path: Path, weights: Weights, kv_cache: KvCacheChoice) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", "llama", "generate")
    manifest = _export(tmp_path, checkpoint, weights=weights, kv_cache=kv_cache)
    assert "kv_cache_type" not in manifest["decoder"]
    assert "kv_cache" not in manifest["quality"]


def test_a_cache_that_hurts_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_kv_cache, "MAX_PERPLEXITY_RATIO", 0.5)
    with pytest.raises(ExportError, match=r"an 8-bit KV cache raises the perplexity from .*: use --kv-cache float"):
        _export(tmp_path, save_tiny(tmp_path / "checkpoint", "llama", "generate"), kv_cache="int8")
    assert list((tmp_path / "repository").iterdir()) == []


def test_only_decoders_have_a_cache_to_round(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="only decoders for the CPU can have an 8-bit KV cache"):
        _export(tmp_path, save_tiny(tmp_path / "checkpoint", "bert", "embed"), kv_cache="int8")


def test_changed_arithmetic_fails_the_export_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", "bert", "embed")

    def wrong_scale(graph: Any) -> None:
        attention = next(node for node in graph.graph if node.domain == "naiad")
        attention.attributes["scale"] = onnx_ir.AttrFloat32("scale", 0.05)

    monkeypatch.setattr(pipeline, "optimise", wrong_scale)
    with pytest.raises(ExportError, match="parity"):
        _export(tmp_path, checkpoint)
    assert list((tmp_path / "repository").iterdir()) == []


_KILLED_EXPORT = """
import os, signal, sys
from pathlib import Path
from exporters.options import ExportOptions
from exporters.pipeline import export_checkpoint
from exporters.runtime import find_ops_library, open_session, run_encoder
def die(phase, seconds):
    if phase == sys.argv[3] and seconds is None:
        os.kill(os.getpid(), signal.SIGKILL)
export_checkpoint(ExportOptions(sys.argv[1], "tiny", Path(sys.argv[2]), weights="int8", force=True, on_phase=die))
"""


@pytest.mark.parametrize("phase", ["load", "export", "verify", "quantise", "write"])
def test_an_export_killed_in_any_phase_leaves_the_repository_as_it_was(tmp_path: Path, phase: str) -> None:
    checkpoint = save_tiny(tmp_path / "checkpoint", "bert", "embed")
    repository = tmp_path / "repository"
    old = repository / "tiny" / "config.pbtxt"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED_EXPORT, str(checkpoint), str(repository), phase],
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [path for path in repository.rglob("*") if path.is_file()] == [old]
    assert old.read_text() == "old"
