"""What cannot be loaded is refused with one line before anything heavy starts."""

from __future__ import annotations

import json
import struct
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from exporters.errors import ExportError
from exporters.source import find_source, source_hash


def _safetensors(path: Path, data: bytes = b"\0" * 16) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps({"model_type": "llama", "architectures": ["LlamaForCausalLM"]}))
    _safetensors(directory / "model.safetensors")
    return directory


def test_a_directory_with_safetensors_is_a_source(checkpoint: Path) -> None:
    found = find_source(str(checkpoint))
    assert found.directory == checkpoint
    assert found.config["model_type"] == "llama"


def test_the_hash_follows_the_content(checkpoint: Path) -> None:
    before = source_hash(find_source(str(checkpoint)))
    assert source_hash(find_source(str(checkpoint))) == before
    _safetensors(checkpoint / "model.safetensors", b"\1" * 16)
    assert source_hash(find_source(str(checkpoint))) != before


def test_pickled_weights_are_never_loaded(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(ExportError, match=r"only pickled weights \(pytorch_model.bin\)"):
        find_source(str(checkpoint))


@pytest.mark.parametrize("kept_bytes", [0, 5, 40, -1])
def test_truncated_safetensors_are_refused(checkpoint: Path, kept_bytes: int) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:kept_bytes])
    with pytest.raises(ExportError, match=r"model\.safetensors (is truncated|has a damaged)"):
        find_source(str(checkpoint))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "is not a model directory: it has no config.json"),
        (lambda d: (d / "config.json").write_text("{"), "is not valid JSON"),
        (lambda d: (d / "config.json").write_text("[]"), "names no model_type"),
        (lambda d: (d / "model.safetensors").unlink(), r"has no \*.safetensors weights"),
        (
            lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "part-2.safetensors"}}'),
            "lacks part-2.safetensors",
        ),
        (
            lambda d: (d / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../other.safetensors"}}'),
            "names weights outside of its folder",
        ),
    ],
)
def test_what_is_no_checkpoint_says_why(checkpoint: Path, change, message: str) -> None:  # type: ignore[no-untyped-def]  # a lambda
    change(checkpoint)
    with pytest.raises(ExportError, match=message):
        find_source(str(checkpoint))


@pytest.mark.parametrize("asked", ["/no/such/path", "./nothing/here/at-all", "missing.gguf", "a/b/c"])
def test_a_path_that_is_not_there_is_not_looked_up_anywhere(asked: str) -> None:
    with pytest.raises(ExportError, match="no such file or directory"):
        find_source(asked)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(b"x")
    with pytest.raises(ExportError, match=r"no \.gguf"):
        find_source(str(file))


@pytest.mark.parametrize(
    "content", [b"", b"GGU", b"GGML" * 8, b"GGUF\x03\x00\x00\x00", b"GGUF" + b"\x03\0\0\0" + b"\xff" * 16]
)
def test_a_truncated_gguf_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(ExportError, match=r"not a GGUF file|truncated"):
        find_source(str(file))


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(ExportError, match="the Hugging Face hub cannot be reached"):
        find_source("someone/some-model")
