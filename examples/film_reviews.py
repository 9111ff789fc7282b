"""Film-review sentences rated by people: the data set behind the built-in sentiment classifier.

The ratings belong to C. J. Hutto and E. Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text", ICWSM 2014, and travel in the source distribution of the PyPI package vaderSentiment (MIT licence):
10,605 sentences, each with the mean of 15 to 29 people's ratings from -4 (most negative) to 4 (most positive).
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

from examples.labelled_texts import DataError, Dataset, LabelledText, make_dataset
from examples.package_files import PackageFile, fetch

PACKAGE = "vaderSentiment==3.3.2"
ARCHIVE_NAME = "vaderSentiment-3.3.2.tar.gz"
ARCHIVE_SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
OUTER_MEMBER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
INNER_FOLDER = "hutto_ICWSM_2014"
INNER_MEMBER = f"{INNER_FOLDER}/movieReviewSnippets_GroundTruth.txt"
DATASET_NAME = f"PyPI {PACKAGE} (source), {INNER_MEMBER}"
LABELS = ("negative", "positive")


def fetch_archive(folder: Path) -> Path:
    """The package's source distribution in `folder`, downloaded with pip when it is not there.

    Raises:
        DataError: pip could not download it, or the file is not the pinned one.
    """
    return fetch(PackageFile(PACKAGE, ARCHIVE_NAME, ARCHIVE_SHA256, is_source=True), folder)


def read_film_reviews(archive: Path) -> Dataset:
    """The rated sentences: `positive` for a mean rating above 0, `negative` below.

    Only a mean of exactly 0 is left out, since it has no side. Weak ratings stay in, also among the held-out texts: a
    figure without them would look better than the classifier is.
    """
    rows: list[LabelledText] = []
    unrated = 0
    for rating, text in _rated_sentences(archive):
        if rating == 0:
            unrated += 1
        else:
            rows.append(LabelledText(text, LABELS[int(rating > 0)]))
    return make_dataset(DATASET_NAME, ARCHIVE_SHA256, rows, labels=LABELS, left_out={"rating of zero": unrated})


def numbered_sentences(archive: Path, inner_member: str) -> Iterator[tuple[str, str]]:
    """(number, sentence) of one of the archive's collections, in its order.

    Raises:
        DataError: the archive is another one.
    """
    for number, _, text in _rows(archive, inner_member):
        yield number, text


def _rated_sentences(archive: Path) -> Iterator[tuple[float, str]]:
    for _, rating, text in _rows(archive, INNER_MEMBER):
        yield rating, text


def _rows(archive: Path, inner_member: str) -> Iterator[tuple[str, float, str]]:
    try:
        with tarfile.open(archive) as outer, tarfile.open(fileobj=io.BytesIO(_member(outer, OUTER_MEMBER))) as inner:
            lines = _member(inner, inner_member).decode("utf-8").splitlines()
        for line in lines:
            number, rating, text = line.split("\t")
            yield number, float(rating), text
    except (tarfile.TarError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{archive}: not the expected archive of rated sentences: {error}") from None


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    if stream is None:
        raise KeyError(name)
    return stream.read()
