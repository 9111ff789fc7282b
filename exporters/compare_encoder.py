"""Measures what 8-bit weights of an encoder cost: vectors beside those of fp32, labels beside those that are right.

    python -m exporters.compare_encoder model_repository/sentiment --table build/quality-texts/held_out_reviews.csv
    python -m exporters.compare_encoder model_repository/embed --table build/quality-texts/held_out_reviews.csv

Takes an entry with fp32 weights, makes the 8-bit one in a temporary folder, and gives both the same texts, as many in a
run as the server packs. The table is a CSV with the columns text and, for a classifier, label.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.errors import ExportError
from exporters.manifest import read_manifest
from exporters.quantise import quantise_encoder
from exporters.quantised_copies import copy_graph
from exporters.runtime import Logits, find_ops_library, open_session, run_encoder

RUN_TOKENS = 512


@dataclass(frozen=True)
class Comparison:
    """Of 8-bit weights with fp32. Cosines are of vectors, shares and accuracies of labels; None where there are none.

    changed_texts: texts that are right with one of the two only, of which the accuracy's change is the difference.
    """

    texts: int
    mean_cosine: float | None = None
    least_cosine: float | None = None
    accuracy_fp32: float | None = None
    accuracy_int8: float | None = None
    same_label: float | None = None
    changed_texts: int | None = None


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m exporters.compare_encoder`."""
    parser = argparse.ArgumentParser(prog="python -m exporters.compare_encoder", description=__doc__.partition("\n")[0])
    parser.add_argument("entry", type=Path, help="repository entry of a classifier or of an embedder with fp32 weights")
    parser.add_argument("--table", type=Path, required=True, metavar="FILE.csv")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    arguments = parser.parse_args(argv)
    try:
        texts, labels = _read_table(arguments.table)
        compared = compare(arguments.entry, texts, labels)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    report = json.dumps({name: value for name, value in asdict(compared).items() if value is not None}, indent=1)
    print(report)
    if arguments.output:
        arguments.output.write_text(report + "\n", encoding="utf-8")
    return 0


def compare(entry: Path, texts: Sequence[str], labels: Sequence[str]) -> Comparison:
    """Raises ExportError if the entry is of another kind, or a label is not the model's."""
    manifest = read_manifest(entry)
    if manifest is None or manifest["precision"] != "fp32" or manifest["task"] not in ("classify", "embed"):
        raise ExportError(f"{entry} is no entry of a classifier or an embedder with fp32 weights")
    ids = _token_ids(entry, texts, manifest["limits"]["context_length_tokens"])
    typed = bool(manifest["encoder"]["uses_token_type_ids"])
    with tempfile.TemporaryDirectory() as folder:
        graph = entry / "1" / "model.onnx"
        exact = _outputs(graph, ids, typed)
        rounded = _outputs(_quantised_encoder(graph, Path(folder)), ids, typed)
    if manifest["task"] == "embed":
        ends = np.cumsum([len(text) for text in ids])[:-1]
        cosines = [_cosine(*pair) for pair in zip(np.split(exact, ends), np.split(rounded, ends), strict=True)]
        return Comparison(len(texts), float(np.mean(cosines)), float(np.min(cosines)))
    return _compare_labels(exact, rounded, _label_indices(labels, manifest["labels"]))


def _compare_labels(exact: Logits, rounded: Logits, wanted: Any) -> Comparison:
    told_exact, told_rounded = exact.argmax(axis=1), rounded.argmax(axis=1)
    right_exact, right_rounded = told_exact == wanted, told_rounded == wanted
    return Comparison(
        len(wanted),
        accuracy_fp32=float(right_exact.mean()),
        accuracy_int8=float(right_rounded.mean()),
        same_label=float((told_exact == told_rounded).mean()),
        changed_texts=int((right_exact != right_rounded).sum()),
    )


def _read_table(path: Path) -> tuple[list[str], list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not rows or "text" not in rows[0]:
        raise ExportError(f"{path} has no rows with a column named text")
    return [row["text"] for row in rows], [row.get("label") or "" for row in rows]


def _label_indices(labels: Sequence[str], known: Sequence[str]) -> Any:
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise ExportError(f"'{unknown[0]}' is no label of the model; it has {', '.join(known)}")
    return np.array([known.index(label) for label in labels])


def _token_ids(entry: Path, texts: Sequence[str], context_length_tokens: int) -> list[list[int]]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(entry / "tokenizer.json"))
    tokenizer.enable_truncation(context_length_tokens)
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def _quantised_encoder(graph: Path, folder: Path) -> Path:
    import onnx_ir

    model = onnx_ir.load(copy_graph(graph, folder / "source"))
    quantise_encoder(model)
    (folder / "int8").mkdir()
    onnx_ir.save(model, folder / "int8" / "model.onnx", external_data="model.onnx.data")
    return folder / "int8" / "model.onnx"


def _outputs(graph: Path, ids: Sequence[Sequence[int]], typed: bool) -> Logits:
    session = open_session(graph, find_ops_library(None))
    runs = [run_encoder(session, pack, [[0] * len(text) for text in pack] if typed else None) for pack in _packs(ids)]
    return np.concatenate(runs)


def _packs(ids: Sequence[Sequence[int]]) -> Iterator[list[Sequence[int]]]:
    pack: list[Sequence[int]] = []
    for text in ids:
        if pack and sum(map(len, pack)) + len(text) > RUN_TOKENS:
            yield pack
            pack = []
        pack.append(text)
    if pack:
        yield pack


def _cosine(exact: Logits, rounded: Logits) -> float:
    first, second = exact.mean(axis=0), rounded.mean(axis=0)
    return float(first @ second / (np.linalg.norm(first) * np.linalg.norm(second)))


if __name__ == "__main__":
    sys.exit(main())
