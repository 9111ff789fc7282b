"""Measures what an 8-bit KV cache of a decoder costs in perplexity and brings in memory and speed, on this machine.

    python -m exporters.compare_kv_caches build/exact-models/chat

Takes an entry with a float cache and prints one row for each type of cache. Speeds are tokens a second of CPU time on
one thread, taken in turns; the best of several rounds is shown. So other work on the machine counts less.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporters.decoder_graph import DecoderShape
from exporters.kv_cache_graph import use_int8_cache
from exporters.manifest import read_manifest
from exporters.quality import WINDOW_TOKENS, entry_text_ids, quality_text, score_text
from exporters.quantised_copies import kv_token_bytes
from exporters.runtime import CachedSequence, PagedDecoder, find_ops_library, open_session

_ROUNDS, _CPU_SECONDS = 3, 1.5
# Perplexity is measured over windows of both sizes: rounding could tell more where more is attended to.
_WINDOWS_TOKENS = (WINDOW_TOKENS, 2048)


@dataclass(frozen=True)
class _Load:
    """Steps of `sequences` sequences that get `step_tokens` each, after `context_tokens` that they already have."""

    sequences: int
    step_tokens: int
    context_tokens: int


_LONGEST_TOKENS, _CHUNK_TOKENS = 4096, 128
_LOADS = {
    "decode after 64": _Load(1, 1, 64),
    "decode after 1,024": _Load(1, 1, 1024),
    "decode after 4,096": _Load(1, 1, _LONGEST_TOKENS),
    "decode, 4 sequences after 1,024": _Load(4, 1, 1024),
    "prefill of 64 after 1,024": _Load(1, 64, 1024),
}


def main(argv: list[str] | None = None) -> int:
    """`python -m exporters.compare_kv_caches`."""
    summary = __doc__.partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m exporters.compare_kv_caches", description=summary)
    parser.add_argument("entry", type=Path, help="repository entry of a decoder with a float KV cache")
    entry = parser.parse_args(argv).entry
    manifest = read_manifest(entry)
    decoder = {} if manifest is None else manifest.get("decoder", {})
    if manifest is None or not decoder or "device" in manifest or decoder.get("kv_cache_type", "float") != "float":
        print(f"{entry} is no entry of a decoder with a float KV cache", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(entry / "1", folder, dirs_exist_ok=True)
        _compare(entry, DecoderShape(**decoder, **manifest["limits"]), Path(folder) / "model.onnx")
    return 0


def _compare(entry: Path, shape: DecoderShape, graph: Path) -> None:
    ids = entry_text_ids(entry, quality_text())
    library = find_ops_library(None)
    decoders: dict[str, tuple[Any, DecoderShape]] = {"float": (open_session(graph, library, threads=1), shape)}
    int8_shape = use_int8_cache(graph, shape)
    decoders["int8"] = (open_session(graph, library, threads=1), int8_shape)
    caches = {kind: _FilledCache(*decoder) for kind, decoder in decoders.items()}
    best: dict[tuple[str, str], float] = {}
    for _ in range(_ROUNDS):
        for column, load in _LOADS.items():
            for kind, cache in caches.items():
                best[kind, column] = max(best.get((kind, column), 0.0), cache.tokens_per_second(load))
    del caches
    perplexities = " | ".join(f"perplexity, windows of {window:,}" for window in _WINDOWS_TOKENS)
    print(f"| KV cache | bytes a token | {perplexities} | same greedy token |", " | ".join(_LOADS), "|")
    scores = {
        kind: [score_text(session, its_shape, ids, window) for window in _WINDOWS_TOKENS]
        for kind, (session, its_shape) in decoders.items()
    }
    for kind, (_, its_shape) in decoders.items():
        values = " | ".join(f"{score.perplexity:.3f}" for score in scores[kind])
        same = np.mean(scores["float"][0].greedy_ids == scores[kind][0].greedy_ids)
        speeds = " | ".join(f"{best[kind, column]:.1f}" for column in _LOADS)
        print(f"| {kind} | {kv_token_bytes(its_shape):,} | {values} | {same:.1%} | {speeds} |", flush=True)


class _FilledCache:
    """A decoder with one long sequence in its cache, parts of which serve as the contexts of all loads."""

    def __init__(self, session: Any, shape: DecoderShape) -> None:
        self._block_tokens = shape.kv_block_tokens
        sequences = max(load.sequences for load in _LOADS.values())
        room = max(load.step_tokens for load in _LOADS.values())
        blocks = -(-_LONGEST_TOKENS // self._block_tokens) + sequences * -(-room // self._block_tokens)
        self._decoder = PagedDecoder(session, shape, blocks)
        self._context = self._decoder.open(_LONGEST_TOKENS)
        self._ends = [self._decoder.open(room) for _ in range(sequences)]
        # Filled for real: memory that was never written to would be read faster than any cache in use.
        for _ in range(0, _LONGEST_TOKENS, _CHUNK_TOKENS):
            self._decoder.step([(self._context, [1] * _CHUNK_TOKENS)])

    def tokens_per_second(self, load: _Load) -> float:
        count = load.context_tokens // self._block_tokens
        sequences = [
            CachedSequence([*self._context.blocks[index * count : (index + 1) * count], *end.blocks])
            for index, end in enumerate(self._ends[: load.sequences])
        ]
        done, begin = 0, time.process_time()
        while time.process_time() - begin < _CPU_SECONDS:
            for sequence in sequences:
                sequence.past = load.context_tokens
            self._decoder.step([(sequence, [1] * load.step_tokens) for sequence in sequences])
            done += load.sequences * load.step_tokens
        return done / (time.process_time() - begin)


if __name__ == "__main__":
    sys.exit(main())
