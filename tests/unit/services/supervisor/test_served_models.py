"""States of the repository: scanned, whole, and one at a time."""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.model_scan import ModelScanError
from services.supervisor.served_models import serve_models
from tests.support.malicious_models import ALL, entry_with_outside_weights, rehash
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

CLASSIFY = EncoderSpec(task="classify")
REPOSITORY_ROOT = Path(__file__).parents[4]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    entry_with_outside_weights(folder)
    return folder


def serving_folders(repository: Path) -> list[Path]:
    return [*repository.parent.glob(".serving-*"), *repository.glob(".serving-*")]


def test_what_is_served_is_links_that_go_away_afterwards(repository: Path) -> None:
    (repository / ".staging-half").mkdir()
    with serve_models(repository, None) as models:
        served = models.path / "victim" / "1" / "model.onnx"
        assert served.samefile(repository / "victim" / "1" / "model.onnx")
        assert sorted(path.name for path in models.path.iterdir()) == ["victim"]
        assert not models.in_place
        assert models.path.parent.stat().st_mode & 0o077 == 0
    assert serving_folders(repository) == []


def test_a_change_of_the_repository_reaches_nobody_before_the_switch(repository: Path) -> None:
    with serve_models(repository, None) as models:
        shutil.rmtree(repository / "victim")
        make_encoder(repository, "other", CLASSIFY)
        assert (models.path / "victim" / "1" / "model.onnx.data").is_file()
        before, path = models.state, models.path
        state = models.stage()
        assert before.changes(state) == ["+other", "-victim"]
        assert (models.path / "victim").is_dir()
        models.switch(state)
        models.discard(before)
        assert models.path == path
        assert [entry.name for entry in path.iterdir()] == ["other"]
        assert not before.folder.exists()


def test_a_changed_entry_shows_and_an_unchanged_one_does_not(repository: Path) -> None:
    with serve_models(repository, None) as models:
        assert models.state.changes(models.stage()) == []
        entry = repository / "victim"
        shutil.copytree(entry, repository / "copy")
        (repository / "copy" / "tokenizer.json").write_text((entry / "tokenizer.json").read_text() + " ")
        shutil.rmtree(entry)
        (repository / "copy").rename(entry)
        rehash(entry)
        assert models.state.changes(models.stage()) == ["~victim"]


@pytest.mark.parametrize("mischief", ALL, ids=lambda mischief: mischief.name)
def test_no_mischief_gets_into_a_state(repository: Path, mischief) -> None:
    with serve_models(repository, None) as models:
        before = models.state
        mischief.apply(repository / "victim")
        with pytest.raises(ModelScanError):
            models.stage()
        assert models.state is before
        assert len(list(models.path.parent.iterdir())) == 2  # the state, and the link to it


def test_an_entry_full_of_files_is_not_linked_to_its_end(repository: Path) -> None:
    for number in range(100):
        (repository / "victim" / f"{number}.json").touch()
    with pytest.raises(ModelScanError, match="more than 32 files"), serve_models(repository, None):
        pass


def test_an_empty_repository_is_refused(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelScanError, match="there is no model in it"), serve_models(tmp_path / "models", None):
        pass
    assert serving_folders(tmp_path / "models") == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EROFS, errno.EXDEV])
def test_where_links_cannot_be_made_the_repository_is_served_in_place(
    repository: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    with serve_models(repository, None) as models:
        assert models.in_place
        assert models.path == repository
        # Triton would load it, the scan would not see it.
        (repository / ".hidden").mkdir()
        with pytest.raises(ModelScanError, match=r"\.hidden: is a folder that Triton would load"):
            models.stage()


def test_an_error_while_serving_is_not_taken_for_one_of_the_links(repository: Path) -> None:
    with pytest.raises(PermissionError), serve_models(repository, None):
        raise PermissionError(errno.EPERM, "somewhere else")
    assert serving_folders(repository) == []


def test_links_of_a_killed_process_are_cleared_away_and_those_of_a_living_one_are_not(repository: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from services.supervisor.served_models import serve_models\n"
        "with serve_models(Path(sys.argv[1]), None): os.kill(os.getpid(), signal.SIGKILL)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}"}
    subprocess.run([sys.executable, "-c", program, str(repository)], check=False, env=environment)
    (leftover,) = serving_folders(repository)
    with serve_models(repository, None) as first:
        assert not leftover.exists()
        with serve_models(repository, None):
            assert (first.path / "victim").is_dir()
