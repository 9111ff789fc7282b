"""Measures what 8-bit and 4-bit weights and an 8-bit KV cache of a decoder cost in quality: one table.

    python -m exporters.compare_quality build/exact-models/chat [--text FILE ...] [--output FILE.json]

Takes an entry with fp32 weights and a float cache, makes the others in a temporary folder, and reads the same texts
with each, alone: what a sequence gets does not depend on what runs beside it. A change comes with its standard error.
Speeds: compare_weights, compare_kv_caches.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.kv_cache_graph import use_int8_cache
from exporters.manifest import read_manifest
from exporters.paired_change import PairedChange, paired_change
from exporters.quality import WINDOW_TOKENS, TextScore, entry_text_ids, quality_text, score_text
from exporters.quantised_copies import copy_graph, file_bytes, kv_token_bytes, quantised_copy
from exporters.runtime import find_ops_library, open_session


@dataclass(frozen=True)
class Row:
    """One combination. change: of the perplexity against fp32 weights with a float cache; text_changes: on each text.

    same_greedy: share of the texts' places where the most probable token is the one that those give.
    """

    weights: str
    kv_cache: str
    file_bytes: int
    kv_token_bytes: int
    perplexity: float
    change: PairedChange
    text_changes: dict[str, PairedChange]
    same_greedy: float


@dataclass(frozen=True)
class _Texts:
    """Texts one after the other, each cut to whole windows. windows: how many of them each text has."""

    ids: list[int]
    window_tokens: int
    windows: dict[str, int]

    def changes(self, score: TextScore, reference: TextScore) -> dict[str, PairedChange]:
        """The change on each text."""
        ends = np.cumsum(list(self.windows.values()))[:-1]
        parts = zip(np.split(score.window_losses, ends), np.split(reference.window_losses, ends), strict=True)
        return {name: paired_change(*part) for name, part in zip(self.windows, parts, strict=True)}


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters.compare_quality`."""
    parser = argparse.ArgumentParser(prog="python -m exporters.compare_quality", description=__doc__.partition("\n")[0])
    parser.add_argument("entry", type=Path, help="repository entry of a decoder with fp32 weights and a float KV cache")
    parser.add_argument(
        "--text", type=Path, nargs="+", metavar="FILE", help="UTF-8; not given: exporters/data/quality_text.txt"
    )
    parser.add_argument("--window", type=int, default=WINDOW_TOKENS, help="tokens read as one sequence (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    arguments = parser.parse_args(argv)
    try:
        if arguments.text:
            texts = {path.stem: path.read_text(encoding="utf-8") for path in arguments.text}
        else:
            texts = {"quality_text": quality_text()}
        rows = compare(arguments.entry, texts, arguments.window)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


def compare(entry: Path, texts: Mapping[str, str], window_tokens: int = WINDOW_TOKENS) -> list[Row]:
    """All rows, fp32 weights with a float cache first. Raises ExportError if the entry is of another kind."""
    manifest = read_manifest(entry)
    decoder = {} if manifest is None else manifest.get("decoder", {})
    if manifest is None or manifest["precision"] != "fp32" or not decoder or "kv_cache_type" in decoder:
        raise ExportError(f"{entry} is no entry of a decoder with fp32 weights and a float KV cache")
    shape = DecoderShape(**decoder, **manifest["limits"])
    read = _whole_windows(
        {name: entry_text_ids(entry, text) for name, text in texts.items()},
        min(window_tokens, shape.context_length_tokens),
    )
    rows: list[Row] = []
    reference: TextScore | None = None
    with tempfile.TemporaryDirectory() as folder:
        for weights, graph in _graphs(entry / "1" / "model.onnx", shape, Path(folder)):
            for kv_cache in ("float", "int8"):
                its_shape = use_int8_cache(graph, shape) if kv_cache == "int8" else shape
                session = open_session(graph, find_ops_library(None))
                score = score_text(session, its_shape, read.ids, read.window_tokens)
                reference = reference or score
                rows.append(
                    Row(
                        weights,
                        kv_cache,
                        file_bytes(graph),
                        kv_token_bytes(its_shape),
                        score.perplexity,
                        paired_change(score.window_losses, reference.window_losses),
                        read.changes(score, reference),
                        float(np.mean(score.greedy_ids == reference.greedy_ids)),
                    )
                )
                print(f"{weights}, {kv_cache} cache: {score.perplexity:.3f}", file=sys.stderr, flush=True)
    return rows


def _whole_windows(texts: Mapping[str, Sequence[int]], window_tokens: int) -> _Texts:
    """Windows of one length weigh the same, and none holds two texts. Raises ExportError for a text that has none."""
    ids: list[int] = []
    windows: dict[str, int] = {}
    for name, text_ids in texts.items():
        windows[name] = len(text_ids) // window_tokens
        if not windows[name]:
            raise ExportError(f"{name} has {len(text_ids)} tokens, less than one window of {window_tokens}")
        ids += text_ids[: windows[name] * window_tokens]
    return _Texts(ids, window_tokens, windows)


def _graphs(source: Path, shape: DecoderShape, folder: Path) -> Iterator[tuple[str, Path]]:
    """Copies that may be changed."""
    yield "fp32", copy_graph(source, folder / "fp32")
    yield "int8", quantised_copy(source, 8, shape.vocabulary_size, folder / "int8")
    yield "int4", quantised_copy(source, 4, shape.vocabulary_size, folder / "int4")


def table(rows: Sequence[Row]) -> str:
    """In Markdown."""
    texts = list(rows[0].text_changes) if len(rows[0].text_changes) > 1 else []
    columns = ["weights", "KV cache", "file, MB", "KV bytes a token", "perplexity", "change", *texts]
    columns.append("same greedy token")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in rows:
        cells = [row.weights, row.kv_cache, f"{row.file_bytes / 1e6:.0f}", f"{row.kv_token_bytes:,}"]
        cells += [f"{row.perplexity:.3f}", str(row.change)]
        cells += [str(row.text_changes[text]) for text in texts]
        lines.append(f"| {' | '.join(cells)} | {row.same_greedy:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
