import errno
import json
import logging
import os
from pathlib import Path

import pytest

from services.common.errors import NaiadError, Reason
from services.common.registry import ModelRegistry, Task
from tests.support.small_models import bert_tokenizer, write_model


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_entries_are_read_from_manifests(tmp_path: Path) -> None:
    write_model(
        tmp_path,
        "sentiment",
        "classify",
        bert_tokenizer(),
        changes={
            "labels": ["negative", "positive"],
            "encoder": {"hidden_size": 384, "pooling": "mean", "normalize": True, "uses_token_type_ids": True},
        },
    )
    entry = ModelRegistry(tmp_path).get("sentiment", Task.CLASSIFY)
    assert (entry.labels, entry.hidden_size, entry.pooling) == (("negative", "positive"), 384, "mean")
    assert (entry.normalize, entry.uses_token_type_ids, entry.chat_template_path) == (True, True, None)


def test_a_missing_model_and_a_wrong_task_are_told_apart(tmp_path: Path) -> None:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    registry = ModelRegistry(tmp_path)
    with pytest.raises(NaiadError) as missing:
        registry.get("other")
    with pytest.raises(NaiadError) as wrong:
        registry.get("embed", Task.GENERATE)
    assert (missing.value.reason, wrong.value.reason) == (Reason.MODEL_NOT_FOUND, Reason.WRONG_TASK)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "format_version 2 is not 1"),
        ({"name": "other"}, "names another model"),
        ({"task": "sing"}, "value of the wrong kind"),
        ({"limits": {"context_length_tokens": 0, "vocabulary_size": 1}}, "not a positive number"),
        ({"limits": {}}, "lacks 'context_length_tokens'"),
        ({"files": {"tokenizer": {"path": "../outside.json"}}}, "lies outside the entry"),
        ({"files": {"tokenizer": {"path": "/etc/passwd"}}}, "lies outside the entry"),
        ({"files": {"tokenizer": {"path": "link.json"}}}, "lies outside the entry"),
        ({"files": {"tokenizer": {"path": "gone.json"}}}, "is missing"),
        ({"files": {"tokenizer": {"path": "tokenizer.json"}}}, "lacks 'sha256'"),
        ({"files": []}, "value of the wrong kind"),
    ],
)
def test_a_corrupt_entry_is_logged_and_left_out_while_others_stay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, change: dict, message: str
) -> None:
    (tmp_path / "outside.json").write_text("{}")
    write_model(tmp_path, "good", "embed", bert_tokenizer())
    bad = write_model(tmp_path, "bad", "embed", bert_tokenizer(), changes=change)
    (bad / "link.json").symlink_to(tmp_path / "outside.json")
    with caplog.at_level(logging.ERROR):
        assert list(ModelRegistry(tmp_path).entries()) == ["good"]
    assert message in caplog.text


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '"text"', "\u0000"])
def test_a_manifest_that_is_not_an_object_is_left_out(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "naiad.json").write_text(content)
    assert not ModelRegistry(tmp_path).entries()


def test_changes_are_seen_after_a_second_and_not_looked_for_before(tmp_path: Path) -> None:
    clock = Clock()
    registry = ModelRegistry(tmp_path, clock)
    assert not registry.entries()
    directory = write_model(tmp_path, "embed", "embed", bert_tokenizer())
    clock.now_s = 0.9
    assert not registry.entries()
    clock.now_s = 1.0
    first = registry.entries()
    assert list(first) == ["embed"]
    clock.now_s = 2.0
    assert registry.entries() is first
    manifest = json.loads((directory / "naiad.json").read_text())
    (directory / "naiad.json").write_text(json.dumps(manifest | {"precision": "int8"}))
    os.utime(directory / "naiad.json", ns=(1, 1))
    clock.now_s = 3.0
    assert registry.entries()["embed"].precision == "int8"


def test_a_repository_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    assert not ModelRegistry(tmp_path / "none").entries()


def test_models_stay_while_the_repository_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    clock = Clock()
    registry = ModelRegistry(tmp_path, clock)
    assert list(registry.entries()) == ["embed"]

    def fail(*_: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as without_descriptors:
        without_descriptors.setattr(Path, "glob", fail)
        clock.now_s += 10
        assert list(registry.entries()) == ["embed"]
    clock.now_s += 10
    assert list(registry.entries()) == ["embed"]
