"""Rows of results as lines of the output file."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from naiad.v1 import classification_pb2 as pb

from services.cli.bulk.rows import DELIMITERS, Row
from services.cli.rpc_errors import item_error

LABEL, SCORE, SCORES, TOKENS, ERROR = "label", "score", "scores", "tokens", "error"


@dataclass(frozen=True)
class ResultFormat:
    """How results are written: beside the row's own columns, `top_k` labels in a CSV or TSV file; names get `prefix`.

    `columns` are the row's own columns that a CSV or TSV file has.
    """

    format: str
    columns: Sequence[str]
    top_k: int
    prefix: str = ""

    @property
    def added_names(self) -> list[str]:
        """Columns that are added to the row's own."""
        if self.format == "jsonl":
            return [self.prefix + name for name in (SCORES, TOKENS, ERROR)]
        ranks = ["" if rank == 1 else f"_{rank}" for rank in range(1, self.top_k + 1)]
        return [
            *(f"{self.prefix}{name}{rank}" for rank in ranks for name in (LABEL, SCORE)),
            f"{self.prefix}{ERROR}",
        ]

    def header(self) -> bytes:
        """The first line; nothing for JSON Lines."""
        return b"" if self.format == "jsonl" else self._delimited([*self.columns, *self.added_names])

    def line(self, row: Row, result: pb.ClassifyResult) -> bytes:
        """The row with its result."""
        error = (row.problem or item_error(result.error)) if result.HasField("error") else ""
        scores = result.classification.scores
        if self.format != "jsonl":
            cells = [_cell(row.cells.get(column)) for column in self.columns]
            best = [cell for score in scores[: self.top_k] for cell in (score.label, _number(score.score))]
            return self._delimited([*cells, *best, *[""] * (2 * self.top_k - len(best)), error])
        added: dict[str, Any] = (
            {ERROR: error}
            if error
            else {
                SCORES: [{LABEL: score.label, SCORE: float(_number(score.score))} for score in scores],
                TOKENS: result.classification.tokens,
            }
        )
        return _json_line({**row.cells, **{self.prefix + name: value for name, value in added.items()}})

    def _delimited(self, cells: Sequence[str]) -> bytes:
        line = io.StringIO()
        csv.writer(line, delimiter=DELIMITERS[self.format], lineterminator="\n").writerow(cells)
        return line.getvalue().encode(errors="surrogatepass")


def _cell(value: Any) -> str:
    """A column's value in a CSV file; of JSON Lines it need not be a text."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json_line(fields: Mapping[str, Any]) -> bytes:
    text = json.dumps(fields, ensure_ascii=False)
    try:
        return text.encode() + b"\n"
    except UnicodeEncodeError:  # half of a surrogate pair, which only an escape can hold
        return json.dumps(fields).encode() + b"\n"


def _number(score: float) -> str:
    return f"{score:.7g}"
