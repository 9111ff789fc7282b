"""Which precision and KV cache a checkpoint is served with when nobody says."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import numpy as np
import pytest

from exporters import demo
from exporters.demo import chat_checkpoint, embed_checkpoint
from exporters.options import EXPORTER_VERSION, CudaOptions, ExportOptions, KvCache, Task, Weights, WeightsChoice
from exporters.own_weights import chosen_kv_cache, chosen_weights
from exporters.source import find_source

ROWS, COLUMNS = 4, 256


def _gguf(folder: Path, types: dict[str, gguf.GGMLQuantizationType]) -> str:
    """A file with one matrix of each name and type."""
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, kind in types.items():
        block_values, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        values = np.zeros((ROWS, COLUMNS // block_values * block_bytes), np.uint8)
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


def _chosen(
    checkpoint: str, task: Task = "generate", *, weights: WeightsChoice = "auto", cuda: CudaOptions | None = None
) -> Weights:
    options = ExportOptions(checkpoint, "model", weights=weights, cuda=cuda)
    return chosen_weights(options, find_source(checkpoint), task)


@pytest.mark.parametrize(
    ("kind", "weights"),
    [("Q4_0", "int4"), ("Q4_1", "int4"), ("Q4_K", "int8"), ("Q6_K", "int8"), ("Q8_0", "int8"), ("F16", "fp32")],
)
def test_a_gguf_file_keeps_the_precision_that_most_of_its_layers_have(
    tmp_path: Path, kind: str, weights: Weights
) -> None:
    kinds = gguf.GGMLQuantizationType
    layers = {"blk.0.attn_q.weight": kinds[kind], "blk.0.ffn_up.weight": kinds[kind], "blk.0.attn_v.weight": kinds.F32}
    # The ends are larger than the layers in a small model, and say nothing of them.
    ends = dict.fromkeys(("token_embd.weight", "output.weight"), kinds.Q5_0)
    assert _chosen(_gguf(tmp_path, layers | ends)) == weights


def test_the_demo_models_are_served_as_their_checkpoints_are() -> None:
    assert _chosen(str(chat_checkpoint())) == "int4"
    assert _chosen(str(embed_checkpoint()), "embed") == "fp32"


def test_what_is_asked_for_counts_and_cuda_has_floats() -> None:
    checkpoint = str(chat_checkpoint())
    assert _chosen(checkpoint, weights="fp32") == "fp32"
    assert _chosen(checkpoint, cuda=CudaOptions()) == "fp32"


@pytest.mark.parametrize(
    ("weights", "task", "cuda", "kv_cache"),
    [
        ("int4", "generate", None, "int8"),
        ("int8", "generate", None, "int8"),
        ("fp32", "generate", None, "float"),
        ("fp32", "generate", CudaOptions(), "float"),
        ("int8", "embed", None, "float"),
        ("int8", "classify", None, "float"),
    ],
)
def test_the_cache_has_8_bits_beside_quantised_weights_unless_asked_otherwise(
    weights: Weights, task: Task, cuda: CudaOptions | None, kv_cache: KvCache
) -> None:
    assert chosen_kv_cache(ExportOptions("checkpoint", "model", cuda=cuda), task, weights) == kv_cache
    for asked in ("float", "int8"):
        assert chosen_kv_cache(ExportOptions("checkpoint", "model", kv_cache=asked, cuda=cuda), task, weights) == asked


@pytest.mark.parametrize(
    ("entry", "wanted", "up_to_date"),
    [
        ({"kv_cache_type": "int8"}, "int8", True),
        ({}, "int8", False),  # As chat was exported when floats were the default.
        ({}, "float", True),
        ({"kv_cache_type": "int8"}, "float", False),
    ],
)
def test_a_demo_model_with_another_cache_is_exported_anew(
    tmp_path: Path, entry: dict[str, str], wanted: KvCache, up_to_date: bool
) -> None:
    manifest = {
        "format_version": 1,
        "precision": "int4",
        "decoder": entry,
        "files": {},
        "source": {"sha256": "of the checkpoint", "exporter_version": EXPORTER_VERSION},
    }
    (tmp_path / "chat").mkdir()
    (tmp_path / "chat" / "naiad.json").write_text(json.dumps(manifest))
    options = ExportOptions("checkpoint", "chat", tmp_path, source_hash="of the checkpoint")
    assert demo._is_up_to_date(options, "int4", wanted) is up_to_date
