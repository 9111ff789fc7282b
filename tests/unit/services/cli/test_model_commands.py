"""`naiad verify`, `naiad sign` and `naiad reload`."""

import json
from pathlib import Path

import pytest

from tests.support.malicious_models import entry_with_outside_weights, rehash
from tests.synthetic.make_encoder import EncoderSpec, make_encoder
from tests.unit.services.cli.conftest import Naiad


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    entry_with_outside_weights(folder)
    make_encoder(folder, "classify", EncoderSpec(task="classify"))
    monkeypatch.setenv("NAIAD_MODEL_REPOSITORY", str(folder))
    monkeypatch.setenv("NAIAD_LOG_DIRECTORY", str(tmp_path / "logs"))
    return folder


@pytest.fixture
def key(tmp_path: Path, repository: Path, naiad: Naiad) -> Path:
    """A private key with which all models are signed."""
    path = tmp_path / "models.key"
    assert naiad("sign", "--new-key", str(path)).code == 0
    return path


def test_models_that_pass_are_listed(repository: Path, naiad: Naiad) -> None:
    result = naiad("verify")
    assert result.code == 0
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["classify", "victim"]
    (line,) = naiad("verify", "victim", "--json").out.splitlines()
    assert json.loads(line)["name"] == "victim"


def test_one_refused_model_fails_the_command_and_the_others_are_still_checked(repository: Path, naiad: Naiad) -> None:
    (repository / "classify" / "weights.pkl").touch()
    result = naiad("verify")
    assert result.code == 1
    assert result.err.startswith("naiad: classify/weights.pkl: is no part of an entry, and may be a pickle")
    assert result.err.count("\n") == 1
    assert "victim" in result.out


def test_a_model_that_is_not_there_and_an_empty_repository_are_told(
    repository: Path, naiad: Naiad, tmp_path: Path
) -> None:
    assert "there is no model gone in" in naiad("verify", "gone").err
    (tmp_path / "empty").mkdir()
    assert "there is no model in" in naiad("verify", "--repository", str(tmp_path / "empty")).err
    assert "cannot be read" in naiad("verify", "--repository", str(tmp_path / "none")).err


def test_signed_models_pass_with_the_public_key(repository: Path, key: Path, naiad: Naiad) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    result = naiad("verify", "--public-key", f"{key}.pub")
    assert result.code == 0, result.err
    assert [line.split()[3] for line in result.out.splitlines()[1:]] == ["yes", "yes"]


@pytest.mark.parametrize("what", ["weights", "tokenizer", "manifest", "config", "unsigned", "moved", "garbage"])
def test_whatever_is_changed_after_signing_is_refused(repository: Path, key: Path, naiad: Naiad, what: str) -> None:
    entry = repository / "victim"
    if what == "weights":
        (entry / "1" / "model.onnx.data").write_bytes(b"\1" * (entry / "1" / "model.onnx.data").stat().st_size)
        rehash(entry)
    elif what == "tokenizer":
        (entry / "tokenizer.json").write_text("{}")
        rehash(entry)
    elif what == "manifest":
        (entry / "naiad.json").write_text((entry / "naiad.json").read_text() + " ")
    elif what == "config":
        (entry / "config.pbtxt").write_text((entry / "config.pbtxt").read_text() + " ")
    elif what == "unsigned":
        (entry / "naiad.sig").unlink()
    elif what == "moved":
        (repository / "classify" / "naiad.sig").replace(entry / "naiad.sig")
    else:
        (entry / "naiad.sig").write_text('{"format_version": 1, "algorithm": "none", "signature": ""}')
    result = naiad("verify", "victim", "--public-key", f"{key}.pub")
    assert result.code == 1
    assert result.err.startswith("naiad: victim/naiad.sig: ")


def test_another_key_does_not_do(repository: Path, key: Path, naiad: Naiad, tmp_path: Path) -> None:
    assert naiad("sign", "--new-key", str(tmp_path / "other.key"), "classify").code == 0
    result = naiad("verify", "--public-key", f"{key}.pub")
    assert result.code == 1
    assert "classify/naiad.sig: does not fit naiad.json and config.pbtxt, or was made with another key" in result.err


def test_the_key_of_the_environment_makes_signatures_obligatory(
    repository: Path, naiad: Naiad, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAIAD_MODEL_PUBLIC_KEY", f"{key}.pub")
    assert naiad("verify").code == 0
    (repository / "victim" / "naiad.sig").unlink()
    assert "victim/naiad.sig: is missing" in naiad("verify").err


def test_keys_that_cannot_be_used_are_told(repository: Path, naiad: Naiad, key: Path, tmp_path: Path) -> None:
    assert "cannot be read" in naiad("verify", "--public-key", str(tmp_path / "none")).err
    assert "is no public key in PEM" in naiad("verify", "--public-key", str(key)).err
    assert "is no private key in PEM" in naiad("sign", "--key", f"{key}.pub").err
    before = key.read_bytes()
    assert "exists" in naiad("sign", "--new-key", str(key)).err
    assert key.read_bytes() == before


def test_what_does_not_pass_is_not_signed(repository: Path, naiad: Naiad, tmp_path: Path) -> None:
    (repository / "victim" / "tokenizer.json").write_text("{}")
    result = naiad("sign", "--new-key", str(tmp_path / "k.key"), "victim")
    assert result.code == 1
    assert not (repository / "victim" / "naiad.sig").exists()


def test_a_reload_without_a_running_system_says_so(repository: Path, naiad: Naiad) -> None:
    result = naiad("reload")
    assert result.code == 69
    assert "no naiad serve has its logs in" in result.err
