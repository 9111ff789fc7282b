"""The graph for CUDA, run in numpy: its logits are those of the CPU's graph, within what half precision explains.

No GPU takes part. What is proved is the rewrite (operands in the right order, layout of the cache, what stays float32),
and that ONNX Runtime accepts the result up to the kernels, which its CPU build lacks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir
import onnxruntime
import pytest
from tokenizers import Tokenizer

from exporters import cli, pipeline, verify_cuda
from exporters.cuda_graph import to_cuda
from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.manifest import read_manifest
from exporters.options import CudaOptions, ExportOptions, Precision
from exporters.pipeline import export_checkpoint
from exporters.quality import quality_text
from exporters.runtime import PagedDecoder, find_ops_library, open_session
from tests.conformance.tiny_checkpoints import DECODERS, save_tiny
from tests.support.cuda_graph_reference import ReferenceDecoder

pytestmark = pytest.mark.conformance

# Between them: grouped heads, learned and rotary positions, partial rotation, windows, soft-capping, both norms.
_QUICK = {"llama", "gpt2", "gemma2", "phi"}
# Of positions of a sequence: several blocks, so that a wrong table or a wrong layout shows.
_SMALL_BLOCK_TOKENS = 16


class _Exported:
    """An entry for the CPU, with the graph that one for CUDA is made from, and the same graph for CUDA."""

    def __init__(self, folder: Path, model_type: str) -> None:
        checkpoint = str(save_tiny(folder / "checkpoint", model_type, "generate"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pipeline, "fuse_attention", lambda _graph: None)
            export_checkpoint(ExportOptions(checkpoint, "tiny", folder))
        self._entry, self._folder = folder / "tiny", folder
        manifest = read_manifest(self._entry)
        assert manifest is not None
        self.shape = DecoderShape(**manifest["decoder"], **manifest["limits"])
        tokenizer = Tokenizer.from_file(str(self._entry / "tokenizer.json"))
        self.text_ids: list[int] = tokenizer.encode(quality_text(), add_special_tokens=False).ids

    def cuda_graph(self, options: CudaOptions) -> tuple[Path, DecoderShape]:
        model = onnx_ir.load(self._entry / "1" / "model.onnx")
        shape = to_cuda(model, self.shape, options)
        path = self._folder / f"{options.precision}.{options.kv_block_tokens}.onnx"
        onnx_ir.save(model, path)
        return path, shape

    def compare(self, options: CudaOptions) -> dict[str, Any]:
        session = open_session(self._entry / "1" / "model.onnx", find_ops_library(None))
        ours = PagedDecoder(session, self.shape, verify_cuda.blocks_needed(self.shape))
        path, shape = self.cuda_graph(options)
        theirs = ReferenceDecoder(path, shape, verify_cuda.blocks_needed(shape))
        return verify_cuda.compare(ours, theirs, shape, self.text_ids)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Exported]:
    yield _Exported(tmp_path_factory.mktemp("llama"), "llama")


@pytest.mark.parametrize(
    "model_type",
    [pytest.param(name, marks=[] if name in _QUICK else [pytest.mark.slow]) for name in sorted(DECODERS)],
)
def test_the_cuda_graph_computes_what_the_cpu_graph_computes(tmp_path: Path, model_type: str) -> None:
    report = _Exported(tmp_path, model_type).compare(CudaOptions("fp16", _SMALL_BLOCK_TOKENS))
    verify_cuda.check(report, "fp16")
    assert report["cuda_rows"] == 199
    assert report["cuda_same_greedy_token"] > 0.95


@pytest.mark.parametrize(("precision", "tokens"), [("bf16", _SMALL_BLOCK_TOKENS), ("fp16", 256)])
def test_bf16_and_blocks_larger_than_a_text_give_the_same_logits(
    llama: _Exported, precision: Precision, tokens: int
) -> None:
    verify_cuda.check(llama.compare(CudaOptions(precision, tokens)), precision)


def test_a_cache_in_the_cpus_layout_would_be_found_out(llama: _Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    # With 16 positions in a block and 2 heads, exchanging both still fits the memory, and only the numbers tell.
    original = ReferenceDecoder.step

    def scrambled(self: ReferenceDecoder, *arguments: Any, **options: Any) -> Any:
        self._caches = {name: cache.transpose(0, 2, 1, 3).reshape(cache.shape) for name, cache in self._caches.items()}
        return original(self, *arguments, **options)

    monkeypatch.setattr(ReferenceDecoder, "step", scrambled)
    with pytest.raises(ExportError, match="parity: logits of the fp16 graph"):
        verify_cuda.check(llama.compare(CudaOptions("fp16", _SMALL_BLOCK_TOKENS)), "fp16")


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_onnx_runtime_takes_the_graph_and_lacks_only_the_kernel(llama: _Exported, precision: Precision) -> None:
    path, _ = llama.cuda_graph(CudaOptions(precision))
    onnx.checker.check_model(str(path))
    onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    if verify_cuda.cuda_available():
        return
    # Operators, types and shapes are resolved before kernels are looked for.
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.NotImplemented, match="implementation for"):
        onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_an_export_for_cuda_says_what_was_and_what_was_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_cuda, "cuda_available", lambda: False)
    checkpoint = save_tiny(tmp_path / "checkpoint", "llama", "generate")
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    arguments = [str(checkpoint), "--name", "tiny", "--repository", str(tmp_path / "models"), "--device", "cuda"]
    assert cli.run(parser.parse_args(arguments)) == 0
    assert "cuda: not run: ONNX Runtime has no CUDA provider here" in capsys.readouterr().out
    entry = tmp_path / "models" / "tiny"
    manifest = json.loads((entry / "naiad.json").read_text())
    assert (manifest["device"], manifest["precision"]) == ("cuda", "fp16")
    assert manifest["decoder"]["kv_block_tokens"] == 256
    assert manifest["parity"]["greedy_tokens_equal"] is True
    assert manifest["parity"]["graph"] == "float32 on the CPU, from which the graph for cuda was made"
    assert manifest["parity"]["cuda_graph"] == verify_cuda.NOT_RUN
    assert "kind: KIND_GPU, gpus: [ 0 ]" in (entry / "config.pbtxt").read_text()
    assert not (entry / ".fp32").exists()
    caches = [value for value in onnx.load(entry / "1" / "model.onnx").graph.input if "_cache." in value.name]
    assert len(caches) == 4
    for value in caches:
        tensor = value.type.tensor_type
        assert tensor.elem_type == onnx.TensorProto.FLOAT16
        assert [size.dim_value for size in tensor.shape.dim][1:] == [256, 2, 8]
