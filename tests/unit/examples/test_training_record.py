from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from examples.labelled_texts import DataError
from examples.training_record import (
    RECORD_NAME,
    WEIGHTS_NAME,
    TrainingInputs,
    TrainingOptions,
    base_name,
    read_current_record,
    replacing,
    write_record,
)

OPTIONS = TrainingOptions(seed=1, epochs=2, learning_rate=0.1, batch_size=8, max_length_tokens=16, trained_layers=None)
INPUTS = TrainingInputs("some/hub-id", "0123", ("text", "label"), 0.1, OPTIONS)
KEY = INPUTS.sha256()


def write_checkpoint(folder: Path) -> None:
    (folder / WEIGHTS_NAME).write_bytes(b"weights")
    write_record(folder, {"format_version": 1, "inputs_sha256": KEY, "held_out_accuracy": 0.9})


def test_a_whole_folder_from_the_same_inputs_is_current(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    record = read_current_record(tmp_path, KEY)
    assert record is not None
    assert record["held_out_accuracy"] == 0.9


@pytest.mark.parametrize("damage", ["other inputs", "other weights", "no weights", "no record", "half a record"])
def test_anything_else_is_not_current(tmp_path: Path, damage: str) -> None:
    write_checkpoint(tmp_path)
    match damage:
        case "other weights":
            (tmp_path / WEIGHTS_NAME).write_bytes(b"weightz")
        case "no weights":
            (tmp_path / WEIGHTS_NAME).unlink()
        case "no record":
            (tmp_path / RECORD_NAME).unlink()
        case "half a record":
            (tmp_path / RECORD_NAME).write_text((tmp_path / RECORD_NAME).read_text()[:40])
    assert read_current_record(tmp_path, "other" if damage == "other inputs" else KEY) is None


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(INPUTS, base="other"),
        dataclasses.replace(INPUTS, dataset_sha256="4567"),
        dataclasses.replace(INPUTS, dataset_columns=("text", "mood")),
        dataclasses.replace(INPUTS, held_out_share=0.2),
        *(
            dataclasses.replace(INPUTS, options=dataclasses.replace(OPTIONS, **{option.name: 3}))
            for option in dataclasses.fields(OPTIONS)
        ),
    ],
)
def test_each_input_changes_the_fingerprint(changed: TrainingInputs) -> None:
    assert changed.sha256() != KEY


def test_a_base_folder_is_known_by_its_content_and_not_by_its_path(tmp_path: Path) -> None:
    keys = []
    for name, weights in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(weights)
        keys.append(dataclasses.replace(INPUTS, base=str(tmp_path / name)).sha256())
    assert keys[0] == keys[1] != keys[2]


def test_the_name_of_a_base_says_nothing_of_the_path_to_it(tmp_path: Path) -> None:
    (tmp_path / "minilm" / "model").mkdir(parents=True)
    assert base_name(str(tmp_path / "minilm" / "model")) == "minilm"
    assert base_name(str(tmp_path / "minilm")) == "minilm"
    assert base_name("owner/hub-id") == "owner/hub-id"


def test_a_finished_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    output = tmp_path / "deep" / "output"
    for content in ("first", "second"):
        with replacing(output) as folder:
            (folder / RECORD_NAME).write_text(content)
    assert (output / RECORD_NAME).read_text() == "second"
    assert [path.name for path in output.parent.iterdir()] == ["output"]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, RuntimeError])
def test_after_an_interruption_the_old_folder_is_as_it_was(tmp_path: Path, interruption: type[BaseException]) -> None:
    output = tmp_path / "output"
    output.mkdir()
    write_checkpoint(output)
    with pytest.raises(interruption), replacing(output) as folder:
        (folder / RECORD_NAME).write_text("half")
        raise interruption
    assert read_current_record(output, KEY)
    assert [path.name for path in tmp_path.iterdir()] == ["output"]


def test_a_folder_of_something_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match=r"is there already and holds no training\.json"), replacing(tmp_path):
        pytest.fail("the body must not run")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_output_that_cannot_be_made_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written: Not a directory"), replacing(tmp_path / "file" / "output"):
        pytest.fail("the body must not run")
