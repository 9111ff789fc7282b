r"""Trains a small GPT-2 from nothing on the sources of Python's standard library, which every machine has.

    python examples/train_gpt2.py
    naiad export build/trained-gpt2 --name code --weights fp32
    python -m exporters.compare_quality model_repository/code --text build/trained-gpt2/held_out.txt

It is no useful model: minutes on a CPU teach it the look of Python code and little more. It is a GPT-2 checkpoint
whose weights come from training, and lie on nobody's grid, to measure on what rounding them costs. The output folder
is an ordinary checkpoint (safetensors, tokenizer, config), `held_out.txt`, the beginnings of files that it was not
trained on, and `training.json`.
"""

from __future__ import annotations

import argparse
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file: let `examples` be found as it is with `python -m examples.train_gpt2`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.labelled_texts import DataError
from examples.training_record import replacing, write_record

REPOSITORY = Path(__file__).resolve().parents[1]
# Tests and tables would be half of the text and teach nothing else.
_LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "encodings", "site-packages", "pydoc_data", "__pycache__"}
_HELD_OUT_EVERY, _HELD_OUT_CHARACTERS, _MOST_CHARACTERS_A_FILE = 20, 60_000, 4_000


@dataclass(frozen=True)
class Recipe:
    """What decides how long the training takes and how good the model gets."""

    layers: int
    hidden_size: int
    vocabulary_size: int
    context_length_tokens: int
    steps: int
    batch_size: int
    learning_rate: float = 8e-4
    seed: int = 13


FULL = Recipe(layers=6, hidden_size=384, vocabulary_size=4096, context_length_tokens=256, steps=2000, batch_size=2)
QUICK = Recipe(layers=2, hidden_size=64, vocabulary_size=512, context_length_tokens=64, steps=10, batch_size=4)


@dataclass(frozen=True)
class Corpus:
    """train: whole files. held_out: the beginnings of other files, one after the other."""

    train: list[str]
    held_out: str


def read_corpus(folder: Path) -> Corpus:
    """The Python sources under `folder`: every twentieth file, in alphabetical order, is held out.

    Raises:
        DataError: there are too few.
    """
    paths = [path for path in sorted(folder.rglob("*.py")) if not _LEFT_OUT & set(path.relative_to(folder).parts)]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in paths]
    texts = [text for text in texts if text.strip()]
    if len(texts) < _HELD_OUT_EVERY:
        raise DataError(f"{folder}: {len(texts)} Python sources; at least {_HELD_OUT_EVERY} are needed")
    held_out = [text[:_MOST_CHARACTERS_A_FILE] for text in texts[_HELD_OUT_EVERY - 1 :: _HELD_OUT_EVERY]]
    train = [text for index, text in enumerate(texts) if index % _HELD_OUT_EVERY != _HELD_OUT_EVERY - 1]
    return Corpus(train, "\n".join(held_out)[:_HELD_OUT_CHARACTERS])


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    arguments = _parser().parse_args(argv)
    try:
        corpus = read_corpus(arguments.sources)
        with replacing(arguments.output) as folder:
            # Here and not above: torch and transformers take seconds to import.
            from examples.gpt2_training import train_gpt2

            record = train_gpt2(corpus, QUICK if arguments.quick else FULL, folder)
            (folder / "held_out.txt").write_text(corpus.held_out, encoding="utf-8")
            write_record(folder, record)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the output folder is as it was", file=sys.stderr)
        return 130
    print(f"wrote {arguments.output}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="train_gpt2.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--sources", type=Path, default=Path(sysconfig.get_path("stdlib")), metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build/trained-gpt2", metavar="FOLDER")
    parser.add_argument("--quick", action="store_true", help="a tiny model and a few steps, to try the recipe")
    return parser


if __name__ == "__main__":
    sys.exit(main())
