"""Measures what 8-bit and 4-bit weights and an 8-bit KV cache of a decoder cost in quality: one table.

    python -m exporters.compare_quality build/exact-models/chat [--text FILE] [--output FILE.json]

Takes an entry with fp32 weights and a float cache, makes the others in a temporary folder, and reads the same text with
each, alone: what a sequence gets does not depend on what runs beside it. Speeds: compare_weights, compare_kv_caches.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.errors import ExportError
from exporters.kv_cache_graph import use_int8_cache
from exporters.manifest import read_manifest
from exporters.quality import WINDOW_TOKENS, TextScore, entry_text_ids, quality_text, score_text
from exporters.quantised_copies import copy_graph, file_bytes, kv_token_bytes, quantised_copy
from exporters.runtime import find_ops_library, open_session


@dataclass(frozen=True)
class Row:
    """One combination. change: of the perplexity against fp32 weights with a float cache.

    same_greedy: share of the text's places where the most probable token is the one that those give.
    """

    weights: str
    kv_cache: str
    file_bytes: int
    kv_token_bytes: int
    perplexity: float
    change: float
    same_greedy: float


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters.compare_quality`."""
    parser = argparse.ArgumentParser(prog="python -m exporters.compare_quality", description=__doc__.partition("\n")[0])
    parser.add_argument("entry", type=Path, help="repository entry of a decoder with fp32 weights and a float KV cache")
    parser.add_argument("--text", type=Path, help="UTF-8; not given: exporters/data/quality_text.txt")
    parser.add_argument("--window", type=int, default=WINDOW_TOKENS, help="tokens read as one sequence (%(default)s)")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    arguments = parser.parse_args(argv)
    try:
        text = arguments.text.read_text(encoding="utf-8") if arguments.text else quality_text()
        rows = compare(arguments.entry, text, arguments.window)
    except (ExportError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    if arguments.output:
        arguments.output.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0


def compare(entry: Path, text: str, window_tokens: int = WINDOW_TOKENS) -> list[Row]:
    """All rows, fp32 weights with a float cache first. Raises ExportError if the entry is of another kind."""
    manifest = read_manifest(entry)
    decoder = {} if manifest is None else manifest.get("decoder", {})
    if manifest is None or manifest["precision"] != "fp32" or not decoder or "kv_cache_type" in decoder:
        raise ExportError(f"{entry} is no entry of a decoder with fp32 weights and a float KV cache")
    shape = DecoderShape(**decoder, **manifest["limits"])
    ids = entry_text_ids(entry, text)
    rows: list[Row] = []
    reference: TextScore | None = None
    with tempfile.TemporaryDirectory() as folder:
        for weights, graph in _graphs(entry / "1" / "model.onnx", shape, Path(folder)):
            for kv_cache in ("float", "int8"):
                its_shape = use_int8_cache(graph, shape) if kv_cache == "int8" else shape
                score = score_text(open_session(graph, find_ops_library(None)), its_shape, ids, window_tokens)
                reference = reference or score
                change = score.perplexity / reference.perplexity - 1.0
                same = float(np.mean(score.greedy_ids == reference.greedy_ids))
                size, token_bytes = file_bytes(graph), kv_token_bytes(its_shape)
                rows.append(Row(weights, kv_cache, size, token_bytes, score.perplexity, change, same))
    return rows


def _graphs(source: Path, shape: DecoderShape, folder: Path) -> Iterator[tuple[str, Path]]:
    """Copies that may be changed."""
    yield "fp32", copy_graph(source, folder / "fp32")
    yield "int8", quantised_copy(source, 8, shape.vocabulary_size, folder / "int8")
    yield "int4", quantised_copy(source, 4, shape.vocabulary_size, folder / "int4")


def table(rows: list[Row]) -> str:
    """In Markdown."""
    lines = ["| weights | KV cache | file, MB | KV bytes a token | perplexity | change | same greedy token |"]
    lines.append("|---" * 7 + "|")
    for row in rows:
        figures = f"{row.perplexity:.3f} | {row.change:+.2%} | {row.same_greedy:.1%}"
        size = f"{row.file_bytes / 1e6:.0f} | {row.kv_token_bytes:,}"
        lines.append(f"| {row.weights} | {row.kv_cache} | {size} | {figures} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
