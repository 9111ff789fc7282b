"""Rows of a CSV, TSV, JSON Lines or plain text file, one after another."""

import csv
import gzip
import itertools
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from services.cli import exit_codes

STANDARD_INPUT = "-"
FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
DELIMITERS = {"csv": ",", "tsv": "\t"}
DEFAULT_COLUMN = "text"
# The service refuses longer texts; one byte more is enough for it to say so.
MAX_SENT_BYTES = 1024 * 1024 + 1
# A cell of a CSV file; the default of 128 KiB is less than a text may have.
_MAX_CELL_CHARS = 64 * 1024 * 1024
_GZIP = ".gz"


@dataclass(frozen=True)
class Source:
    """Where rows come from. `path` is "-" for standard input; `pair_column` is None unless rows are pairs."""

    path: str
    format: str
    column: str
    pair_column: str | None = None
    taken_names: Sequence[str] = ()

    @property
    def columns(self) -> list[str]:
        """Columns that hold texts."""
        return [self.column] if self.pair_column is None else [self.column, self.pair_column]


@dataclass(frozen=True)
class Row:
    """One row. `texts` is one text, or two of a pair; None when there is a `problem` instead."""

    index: int
    cells: Mapping[str, Any]
    texts: Sequence[str] | None
    problem: str = ""
    size_bytes: int = field(default=0, compare=False)


def format_of(path: str, option: str) -> str:
    """The format that a file's name tells, whether compressed or not."""
    suffix = Path(path.removesuffix(_GZIP)).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise exit_codes.CommandError(f"{option}: {path!r} does not end in one of {known}", exit_codes.WRONG_USAGE)
    return FORMATS[suffix]


def read_rows(source: Source) -> Iterator[Row]:
    """Rows that are not blank. Raises CommandError when the file cannot be read as what it is."""
    index = -1
    try:
        with _open(source.path) as stream:
            for index, cells in enumerate(_READERS[source.format](stream, source)):
                for name in source.taken_names:
                    if name in cells:
                        found = f"{source.path}: has a column {name!r} already"
                        raise exit_codes.CommandError(f"{found}; choose others with --prefix", exit_codes.WRONG_USAGE)
                yield _row(index, cells, source)
    except UnicodeDecodeError as error:
        raise _unreadable(source, index, "not UTF-8") from error
    except (csv.Error, gzip.BadGzipFile, EOFError) as error:
        raise _unreadable(source, index, str(error)) from error
    except OSError as error:
        raise exit_codes.CommandError(f"{source.path}: {error.strerror or error}", exit_codes.WRONG_USAGE) from error


def _unreadable(source: Source, index: int, reason: str) -> exit_codes.CommandError:
    return exit_codes.CommandError(f"{source.path}: after row {index + 1}: {reason}", exit_codes.WRONG_USAGE)


def _open(path: str) -> TextIO:
    if path == STANDARD_INPUT:
        return sys.stdin
    # "utf-8-sig": spreadsheets begin their CSV files with a byte order mark.
    if path.endswith(_GZIP):
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return Path(path).open(encoding="utf-8-sig", newline="")


def _row(index: int, cells: Mapping[str, Any], source: Source) -> Row:
    texts: list[str] = []
    size_bytes = 0
    for column in source.columns:
        value = cells.get(column)
        if not isinstance(value, str):
            return Row(index, cells, None, f"{column}: {'is missing' if value is None else 'is not a text'}")
        try:
            encoded = value.encode()
        except UnicodeEncodeError:
            return Row(index, cells, None, f"{column}: has half of a surrogate pair")
        size_bytes += len(encoded)
        texts.append(value if len(encoded) <= MAX_SENT_BYTES else encoded[:MAX_SENT_BYTES].decode(errors="ignore"))
    return Row(index, cells, texts, size_bytes=min(size_bytes, 2 * MAX_SENT_BYTES))


def _delimited(stream: TextIO, source: Source) -> Iterator[Mapping[str, Any]]:
    csv.field_size_limit(_MAX_CELL_CHARS)
    table = csv.reader(stream, delimiter=DELIMITERS[source.format], strict=True)
    header = next(table, [])
    for column in source.columns:
        if column not in header:
            found = f"{source.path} has no column {column!r}, but {', '.join(map(repr, header)) or 'nothing'}"
            raise exit_codes.CommandError(f"{found}; choose one with --column", exit_codes.WRONG_USAGE)
    if len(set(header)) < len(header):
        raise exit_codes.CommandError(f"{source.path} has two columns of the same name", exit_codes.WRONG_USAGE)
    for cells in table:
        if not cells:
            continue  # a blank line
        if len(cells) > len(header):
            found = f"line {table.line_num} has {len(cells)} cells, the header {len(header)}"
            raise exit_codes.CommandError(f"{source.path}: {found}", exit_codes.WRONG_USAGE)
        yield dict(itertools.zip_longest(header, cells))


def _json_lines(stream: TextIO, source: Source) -> Iterator[Mapping[str, Any]]:
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            cells = json.loads(line)
        except (ValueError, RecursionError):
            cells = None
        if not isinstance(cells, dict):
            raise exit_codes.CommandError(f"{source.path}: line {number} is not a JSON object", exit_codes.WRONG_USAGE)
        yield cells


def _lines(stream: TextIO, source: Source) -> Iterator[Mapping[str, Any]]:
    for line in stream:
        if line.strip():
            yield {source.column: line.rstrip("\r\n")}


_READERS = {"csv": _delimited, "tsv": _delimited, "jsonl": _json_lines, "txt": _lines}
