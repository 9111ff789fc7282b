from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from examples import finetune_classifier

SCRIPT = Path(finetune_classifier.__file__)
COLUMNS = ["--text-column", "body", "--label-column", "verdict"]


def train(table: Path, base: Path, output: Path, *more: str) -> int:
    options = ["--epochs", "6", "--learning-rate", "0.005", "--batch-size", "16", "--held-out-share", "0.25", *more]
    return finetune_classifier.main(
        ["--data", str(table), *COLUMNS, "--base", str(base), "--output", str(output), *options]
    )


def read_record(output: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((output / "training.json").read_text(encoding="utf-8"))
    return record


def test_training_gives_a_checkpoint_that_classifies_and_an_honest_record(
    table: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "output"
    assert train(table, tiny_bert, output) == 0
    record = read_record(output)
    assert record["held_out_accuracy"] > 0.9 > record["majority_baseline_accuracy"]
    assert f"held-out accuracy {record['held_out_accuracy']:.4f} on 40 texts" in capsys.readouterr().out
    assert record["dataset"]["name"] == "reviews.csv"
    assert record["dataset"]["texts"] == 160
    assert sum(record["split"]["train_texts"].values()) == 120
    assert sum(record["split"]["held_out_texts"].values()) == 40
    assert (record["seed"], record["epochs"], record["base"]) == (13, 6, "tiny-bert")
    assert str(tmp_path) not in json.dumps(record)

    model = AutoModelForSequenceClassification.from_pretrained(output)
    tokenizer = AutoTokenizer.from_pretrained(output)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    with torch.no_grad():
        logits = model(**tokenizer(["the film was dull", "the cast was warm"], return_tensors="pt")).logits
    assert logits.argmax(-1).tolist() == [0, 1]
    saved = json.loads((output / "tokenizer.json").read_text(encoding="utf-8"))
    assert saved["padding"] is None
    assert saved["truncation"] is None


def test_the_same_arguments_give_the_same_weights_and_a_current_output_is_left_alone(
    table: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(table, tiny_bert, first) == train(table, tiny_bert, second) == 0
    assert read_record(first)["weights_sha256"] == read_record(second)["weights_sha256"]
    capsys.readouterr()
    written = (first / "training.json").stat().st_mtime_ns
    assert train(table, tiny_bert, first) == 0
    assert f"{first} is up to date" in capsys.readouterr().out
    assert (first / "training.json").stat().st_mtime_ns == written
    assert train(table, tiny_bert, first, "--seed", "14") == 0
    assert read_record(first)["weights_sha256"] != read_record(second)["weights_sha256"]


def test_only_the_wanted_layers_are_trained(table: Path, tiny_bert: Path, tmp_path: Path) -> None:
    assert train(table, tiny_bert, tmp_path / "output", "--trained-layers", "1") == 0
    before = load_file(tiny_bert / "model.safetensors")
    after = load_file(tmp_path / "output" / "model.safetensors")
    changed = {name.split(".attention")[0] for name in before if not before[name].equal(after[f"bert.{name}"])}
    assert any(name.startswith("encoder.layer.1") for name in changed)
    assert not any(name.startswith(("embeddings", "encoder.layer.0")) for name in changed)


def test_bad_input_ends_with_one_line_and_status_2(
    table: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    no_encoder = shutil.copytree(tiny_bert, tmp_path / "no-encoder")
    (no_encoder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    truncated = shutil.copytree(tiny_bert, tmp_path / "truncated")
    (truncated / "model.safetensors").write_bytes((tiny_bert / "model.safetensors").read_bytes()[:5000])
    output = tmp_path / "output"
    cases = [
        (["--data", str(tmp_path / "missing.csv")], "cannot be read: No such file or directory"),
        (["--data", str(table)], "no column 'text'"),
        (["--data", str(table), *COLUMNS, "--base", str(empty)], "cannot be loaded as a base model"),
        (["--data", str(table), *COLUMNS, "--base", str(truncated)], "cannot be loaded as a base model"),
        (["--data", str(table), *COLUMNS, "--base", str(no_encoder)], "holds no encoder for this architecture"),
        (
            ["--data", str(table), *COLUMNS, "--base", str(tiny_bert), "--trained-layers", "3"],
            "the base model has 2 layers",
        ),
    ]
    for arguments, message in cases:
        assert finetune_classifier.main([*arguments, "--output", str(output)]) == 2
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert message in errors[0]
        assert not output.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs", "0"],
        ["--held-out-share", "1"],
        ["--learning-rate", "nan"],
        ["--batch-size", "many"],
        ["--seed", "-1"],
    ],
)
def test_a_number_out_of_range_is_refused_before_anything_is_read(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        finetune_classifier.main(arguments)
    assert caught.value.code == 2


@pytest.mark.parametrize("start", [[str(SCRIPT)], ["-m", "examples.finetune_classifier"]])
def test_it_starts_as_a_file_and_as_a_module(start: list[str]) -> None:
    finished = subprocess.run(
        [sys.executable, *start, "--help"], capture_output=True, text=True, check=False, cwd=SCRIPT.parents[1]
    )
    assert finished.returncode == 0
    assert "--text-column" in finished.stdout
