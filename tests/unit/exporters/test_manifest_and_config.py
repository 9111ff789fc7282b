"""The files that services and backend read."""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from exporters import cli
from exporters.encoder_heads import pooling
from exporters.errors import ExportError
from exporters.manifest import Manifest, describe_files, read_manifest
from exporters.triton_config import triton_config


def _manifest(**parts: object) -> Manifest:
    return Manifest("chat", "generate", "llama", "int8", {"context_length_tokens": 8}, {}, **parts)  # type: ignore[arg-type]  # parts of several types


def test_absent_parts_are_left_out_and_reports_stay() -> None:
    content = json.loads(_manifest(decoder={"num_layers": 1}).to_json())
    assert content["format_version"] == 1
    assert "encoder" not in content
    assert "labels" not in content
    assert content["training"] == {}


def test_files_are_described_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "model.onnx").write_bytes(b"graph")
    assert describe_files(tmp_path) == {
        "graph": {"path": "1/model.onnx", "sha256": hashlib.sha256(b"graph").hexdigest(), "size_bytes": 5}
    }


@pytest.mark.parametrize("text", ["", "[]", '{"format_version": 2}'])
def test_a_manifest_of_another_format_is_not_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "naiad.json").write_text(text)
    assert read_manifest(tmp_path) is None


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "naiad.json").write_text(_manifest().to_json())
    content = read_manifest(tmp_path)
    assert content is not None
    assert content["architecture"] == "llama"


def test_only_generation_is_decoupled_and_parameters_are_strings() -> None:
    text = triton_config("chat", "generate", 0, {"kv_cache_bytes": "1024"})
    assert "decoupled: true" in text
    assert 'parameters { key: "kv_cache_bytes" value: { string_value: "1024" } }' in text
    assert "decoupled" not in triton_config("embed", "embed", 384, {})
    assert "max_batch_size: 0" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"pooling_mode_mean_tokens": True}, ("mean", True)),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls", True)),
        ({"pooling_mode_max_tokens": True}, ("max", True)),
    ],
)
def test_pooling_is_read_from_sentence_transformers(
    tmp_path: Path, settings: object, expected: tuple[str, bool]
) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(settings))
    modules = [{"path": "1_Pooling", "type": "a.b.Pooling"}, {"path": "2", "type": "a.b.Normalize"}]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert pooling(tmp_path) == expected


def test_pooling_that_naiad_does_not_know_is_refused(tmp_path: Path) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_weightedmean_tokens": true}')
    (tmp_path / "modules.json").write_text('[{"path": "1_Pooling", "type": "Pooling"}]')
    with pytest.raises(ExportError, match="weightedmean"):
        pooling(tmp_path)


def test_without_sentence_transformers_files_pooling_is_the_mean(tmp_path: Path) -> None:
    assert pooling(tmp_path) == ("mean", False)


def test_the_command_answers_a_wrong_path_with_one_line_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = argparse.ArgumentParser()
    cli.add_arguments(parser)
    repository = tmp_path / "repository"
    code = cli.run(parser.parse_args(["/no/such/model", "--name", "x", "--repository", str(repository)]))
    assert code == 2
    assert capsys.readouterr().err == "naiad export: no such file or directory: /no/such/model\n"
    assert not repository.exists()


def test_the_command_line_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'onnx'}"
    code = f"import sys, exporters.cli, exporters.demo; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
