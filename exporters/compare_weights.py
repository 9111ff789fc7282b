"""Measures what 8-bit and 4-bit weights of a decoder cost in perplexity and bring in speed, on this machine.

    python -m exporters.compare_weights build/exact-models/chat

Takes an entry with fp32 weights, quantises its graph in a temporary folder and prints one row a precision. Speeds are
taken in turns, several rounds, and the best round of each is shown: other work on the machine then slows all alike.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any, Literal

from exporters.decoder_graph import DecoderShape
from exporters.manifest import read_manifest
from exporters.quality import entry_text_ids, perplexity, quality_text, tokens_per_second
from exporters.quantised_copies import copy_graph, file_bytes, quantised_copy
from exporters.runtime import find_ops_library, open_session

_ROUNDS, _SECONDS = 3, 1.0
# Column: (sequences, tokens each in one step).
_LOADS = {
    "decode, 1 sequence": (1, 1),
    "decode, 8 sequences": (8, 1),
    "decode, 32 sequences": (32, 1),
    "prefill, 64 tokens": (1, 64),
    "prefill, 512 tokens": (1, 512),
}


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters.compare_weights`."""
    parser = argparse.ArgumentParser(prog="python -m exporters.compare_weights", description=__doc__.partition("\n")[0])
    parser.add_argument("entry", type=Path, help="repository entry of a decoder with fp32 weights")
    entry = parser.parse_args(argv).entry
    manifest = read_manifest(entry)
    if manifest is None or manifest["task"] != "generate" or manifest["precision"] != "fp32":
        print(f"{entry} is no entry of a decoder with fp32 weights", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        _compare(entry, manifest, Path(folder))
    return 0


def _compare(entry: Path, manifest: dict[str, Any], folder: Path) -> None:
    shape = DecoderShape(**manifest["decoder"], **manifest["limits"])
    ids = entry_text_ids(entry, quality_text())
    graphs = {"fp32": copy_graph(entry / "1" / "model.onnx", folder / "fp32")}
    for precision, bits in (("int8", 8), ("int4", 4)):
        width: Literal[4, 8] = 8 if bits == 8 else 4
        graphs[precision] = quantised_copy(graphs["fp32"], width, shape.vocabulary_size, folder / precision)
    sessions = {precision: open_session(graph, find_ops_library(None)) for precision, graph in graphs.items()}
    best: dict[tuple[str, str], float] = {}
    for _ in range(_ROUNDS):
        for column, (sequences, step_tokens) in _LOADS.items():
            for precision, session in sessions.items():
                speed = tokens_per_second(session, shape, sequences, step_tokens, _SECONDS)
                best[precision, column] = max(best.get((precision, column), 0.0), speed)
    print("| weights | file, MB | perplexity |", " | ".join(f"{column}, tokens/s" for column in _LOADS), "|")
    for precision, session in sessions.items():
        size = file_bytes(graphs[precision]) / 1e6
        speeds = " | ".join(f"{best[precision, column]:.0f}" for column in _LOADS)
        print(f"| {precision} | {size:.0f} | {perplexity(session, shape, ids):.2f} | {speeds} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
