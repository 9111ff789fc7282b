"""Texts with one label each: read from a table, cleaned of repeats, and split into training and held-out texts."""

from __future__ import annotations

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

MIN_TEXTS_PER_LABEL = 2  # one to train on and one to be held out


class DataError(Exception):
    """The data cannot be used; the message is one line for the person who gave it."""


@dataclass(frozen=True)
class LabelledText:
    """One text and the name of its label."""

    text: str
    label: str


@dataclass(frozen=True)
class Dataset:
    """Distinct texts of one source, and how many rows were left out for which reason."""

    name: str
    sha256: str
    texts: tuple[LabelledText, ...]
    labels: tuple[str, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Split:
    """The two parts share no text, not even one that differs only in case or spacing."""

    train: tuple[LabelledText, ...]
    held_out: tuple[LabelledText, ...]


def read_table(path: Path, text_column: str, label_column: str) -> Dataset:
    """Reads a UTF-8 table with a header line.

    `.tsv` and `.tab` files are split at tabs and know no quoting; any other name is read as comma-separated values with
    double quotes around values that hold a comma or a line break. Rows whose text or label is blank are left out.

    Raises:
        DataError: unreadable file, missing column, ragged row, or too few texts.
    """
    content = read_bytes(path)
    try:
        lines = io.StringIO(content.decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from None
    if path.suffix.lower() in {".tsv", ".tab"}:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        reader = csv.reader(lines, strict=True)
    try:
        rows = list(_labelled_rows(path, reader, text_column, label_column))
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: {error}") from None
    return make_dataset(path.name, hashlib.sha256(content).hexdigest(), rows)


def read_bytes(path: Path) -> bytes:
    """The file's content; a `DataError` with the system's reason when it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def make_dataset(
    name: str,
    sha256: str,
    rows: Iterable[LabelledText],
    *,
    labels: Sequence[str] | None = None,
    left_out: Mapping[str, int] | None = None,
) -> Dataset:
    """Keeps the first of equal texts and none of those whose copies disagree about the label.

    `labels` fixes the order of the label ids; by default they are sorted by name. `left_out` counts rows that
    the caller left out already.

    Raises:
        DataError: no text at all, fewer than two labels, or a label with fewer than two texts.
    """
    counts: Counter[str] = Counter(left_out or {})
    copies: dict[str, list[LabelledText]] = {}
    for row in rows:
        text, label = " ".join(row.text.split()), row.label.strip()
        if text and label:
            copies.setdefault(_identity(text), []).append(LabelledText(text, label))
        else:
            counts["blank"] += 1
    texts: list[LabelledText] = []
    for equal in copies.values():
        if len({item.label for item in equal}) > 1:
            counts["contradictory"] += len(equal)
        else:
            texts.append(equal[0])
            counts["repeated"] += len(equal) - 1
    found = Counter(item.label for item in texts)
    _require_usable(name, found)
    order = tuple(labels) if labels is not None else tuple(sorted(found))
    return Dataset(
        name, sha256, tuple(texts), order, {reason: count for reason, count in sorted(counts.items()) if count}
    )


def split_texts(dataset: Dataset, held_out_share: float, seed: int) -> Split:
    """Holds out `held_out_share` (over 0, under 1) of each label's texts, at least one and never all.

    A text's side follows from its own hash with the seed, so that neither the order of the rows nor the random number
    generator of a library version changes the split.
    """
    train: list[LabelledText] = []
    held_out: list[LabelledText] = []
    for label in dataset.labels:
        ranked = sorted(
            (item for item in dataset.texts if item.label == label), key=lambda item: _rank(item.text, seed)
        )
        count = min(max(1, round(len(ranked) * held_out_share)), len(ranked) - 1)
        held_out += ranked[:count]
        train += ranked[count:]
    return Split(tuple(train), tuple(held_out))


def majority_share(texts: Sequence[LabelledText]) -> float:
    """The accuracy of always answering the commonest label of these texts."""
    return max(Counter(item.label for item in texts).values()) / len(texts)


def _labelled_rows(
    path: Path, reader: Iterator[list[str]], text_column: str, label_column: str
) -> Iterator[LabelledText]:
    header = [name.strip() for name in next(reader, [])]
    if not header:
        raise DataError(f"{path}: the file is empty")
    for name in (text_column, label_column):
        if name not in header:
            raise DataError(f"{path}: no column {name!r}; the header has {', '.join(map(repr, header))}")
    text_index, label_index = header.index(text_column), header.index(label_column)
    for number, row in enumerate(reader, start=1):
        if not row:
            continue
        if len(row) != len(header):
            raise DataError(f"{path}: row {number} has {len(row)} values, the header {len(header)}")
        yield LabelledText(row[text_index], row[label_index])


def _require_usable(name: str, found: Mapping[str, int]) -> None:
    if not found:
        raise DataError(f"{name}: there is no labelled text in it")
    if len(found) < 2:
        raise DataError(f"{name}: every text has the label {next(iter(found))!r}; at least two labels are needed")
    rare = sorted(label for label, count in found.items() if count < MIN_TEXTS_PER_LABEL)
    if rare:
        raise DataError(f"{name}: each label needs {MIN_TEXTS_PER_LABEL} texts or more; too few of {rare[0]!r}")


def _identity(text: str) -> str:
    return " ".join(text.split()).casefold()


def _rank(text: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\n{_identity(text)}".encode()).digest()
