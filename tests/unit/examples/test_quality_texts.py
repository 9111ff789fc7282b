from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from examples import film_reviews, quality_texts


def _archive(folder: Path, members: dict[str, str]) -> Path:
    """As film_reviews reads it: an archive in an archive."""

    def packed(files: dict[str, bytes]) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    inner = packed({name: text.encode() for name, text in members.items()})
    archive = folder / film_reviews.ARCHIVE_NAME
    archive.write_bytes(packed({film_reviews.OUTER_MEMBER: inner}))
    return archive


def test_sentences_become_articles_again_and_articles_paragraphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = (
        "1_1\t0.5\tIt rains.\r\n1_2\t0\t''Why?'' they ask.\r\n2_1\t-1\tA second one.\r\n3\t-1\tOne.\r\n4\t1\tMore.\r\n"
    )
    archive = _archive(tmp_path, dict.fromkeys(quality_texts.MEMBERS.values(), collection))
    monkeypatch.setattr(film_reviews, "ARCHIVE_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(quality_texts, "CHARACTERS_EACH", 30)
    assert quality_texts.main(["--downloads", str(tmp_path), "--output", str(tmp_path / "texts")]) == 0
    texts = {path.stem: path.read_text() for path in (tmp_path / "texts").glob("*.txt")}
    # The first article has 25 characters, so that a second one is needed.
    assert texts == dict.fromkeys(("editorials", "films", "products"), 'It rains. "Why?" they ask.\n\nA second one.\n')
    held_out = (tmp_path / "texts" / "held_out_reviews.csv").read_text().splitlines()
    assert held_out[0] == "text,label"
    assert sorted(line.rpartition(",")[2] for line in held_out[1:]) == ["negative", "positive"]


def test_another_archive_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _archive(tmp_path, {})
    assert quality_texts.main(["--downloads", str(tmp_path), "--output", str(tmp_path / "texts")]) == 2
    assert "sha256 is" in capsys.readouterr().err
    assert not (tmp_path / "texts").exists()
