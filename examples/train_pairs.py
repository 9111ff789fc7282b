r"""Trains a small BERT to judge pairs of texts, on WordNet: the built-in models `pairs` and `topics`.

    python examples/train_pairs.py                        # does a text answer a question? one label: relevant
    python examples/train_pairs.py --kind entailment      # is a text about a topic? labels: entailment, contradiction
    naiad export build/finetuned-relevance --name pairs

The output folder is an ordinary checkpoint and `training.json`: what it was trained on, and how it ranks for questions
and topics that it was not trained on, beside what the cosine of the base model's vectors does there.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: let `examples` be found as it is with `python -m examples.train_pairs`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples import pair_texts, wordnet
from examples.finetune_classifier import REPOSITORY, default_base
from examples.labelled_texts import DataError
from examples.pair_texts import PairData
from examples.training_record import (
    TrainingInputs,
    TrainingOptions,
    base_facts,
    read_current_record,
    replacing,
    write_record,
)


@dataclass(frozen=True)
class Kind:
    """What pairs are about. labels: as in train_pairs; measure: what the record calls the held-out task."""

    labels: tuple[str, ...]
    make: Callable[[int, int, Path], PairData]
    measure: str


KINDS = {
    "relevance": Kind(
        ("relevant",), pair_texts.relevance_pairs, "a noun's definition among up to 20, 9 of them of nouns of its kind"
    ),
    "entailment": Kind(
        ("entailment", "contradiction"), pair_texts.entailment_pairs, "the topic of a text among 5, none trained on"
    ),
}


@dataclass(frozen=True)
class Preset:
    """pairs: to train on."""

    pairs: int
    options: TrainingOptions
    output: str


FULL = Preset(60_000, TrainingOptions(13, 2, 1e-4, 32, 96, None), "build/finetuned-{}")
# Definitions of near nouns take many pairs to tell apart, topics take more layers.
QUICK = {
    "relevance": Preset(12_000, TrainingOptions(13, 1, 5e-4, 32, 64, 2), "build/{}-checkpoint"),
    "entailment": Preset(5_000, TrainingOptions(13, 1, 2e-4, 16, 64, 4), "build/{}-checkpoint"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done or nothing to do, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        _run(arguments)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the output folder is as it was", file=sys.stderr)
        return 130
    return 0


def _run(arguments: argparse.Namespace) -> None:
    preset, kind = QUICK[arguments.kind] if arguments.quick else FULL, KINDS[arguments.kind]
    if arguments.pairs:
        preset = replace(preset, pairs=arguments.pairs)
    output: Path = arguments.output or REPOSITORY / preset.output.format(arguments.kind)
    inputs = TrainingInputs(
        base=arguments.base or default_base(),
        dataset_sha256=_data_fingerprint(arguments.kind, preset.pairs, arguments.wordnet),
        dataset_columns=None,
        held_out_share=pair_texts.HELD_OUT_SHARE,
        options=preset.options,
    )
    current = None if arguments.force else read_current_record(output, inputs.sha256())
    if current:
        print(f"{output} is up to date (held-out ranking {current['held_out_ranking']['model']})")
        return
    data = kind.make(preset.pairs, preset.options.seed, arguments.wordnet)
    print(f"{len(data.train)} pairs to train on, {len(data.held_out)} choices held out", flush=True)
    from examples.pair_training import train_pairs

    begin = time.perf_counter(), time.process_time()
    with replacing(output) as folder:
        scores = train_pairs(inputs.base, data, kind.labels, preset.options, folder)
        record: dict[str, Any] = {
            "dataset": {
                "name": f"WordNet 3.0, {arguments.kind} (examples/pair_texts.py)",
                "sha256": inputs.dataset_sha256,
                "pairs": len(data.train),
            },
            "labels": list(kind.labels),
            "held_out_task": kind.measure,
            "held_out_choices": len(data.held_out),
            "held_out_ranking": scores,
            "wall_seconds": round(time.perf_counter() - begin[0], 1),
            "cpu_seconds": round(time.process_time() - begin[1], 1),
        }
        write_record(folder, base_facts(inputs) | record)
    for name, score in scores.items():
        print(f"{kind.measure}, {name}: {score}")
    print(f"{record['wall_seconds']:.0f} s, {record['cpu_seconds']:.0f} s of CPU; wrote {output}")


def _data_fingerprint(kind: str, pairs: int, folder: Path) -> str:
    digest = hashlib.sha256(f"{kind} {pairs}".encode())
    here = Path(__file__).parent
    # What makes the pairs is part of the data.
    files = (folder / "data.noun", folder / "index.noun", here / "wordnet.py", here / "pair_texts.py")
    try:
        for path in files:
            digest.update(path.read_bytes())
    except OSError:
        raise DataError(f"{folder}: there is no WordNet here: apt-get install wordnet-base") from None
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_pairs.py",
        description="Train a small BERT to judge whether the second of two texts goes with the first.",
    )
    parser.add_argument("--kind", choices=sorted(KINDS), default="relevance", help="what pairs are about (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="less data, the top layers only: a minute or two")
    parser.add_argument("--pairs", type=int, metavar="N", help=f"{FULL.pairs}; fewer with --quick")
    parser.add_argument("--base", metavar="MODEL", help="checkpoint folder or hub id (all-MiniLM-L6-v2)")
    outputs = f"{FULL.output.format('KIND')}; with --quick {QUICK['relevance'].output.format('KIND')}"
    parser.add_argument("--output", type=Path, metavar="FOLDER", help=outputs)
    parser.add_argument("--wordnet", type=Path, default=wordnet.WORDNET, metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--force", action="store_true", help="train even if the output is up to date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
