"""Writes the texts that docs/quality.md measures the cost of rounding on: three kinds of prose, each its own file,
and the film reviews that `sentiment` is not trained on, with their labels.

    python examples/quality_texts.py
    python -m exporters.compare_quality build/exact-models/chat --text build/quality-texts/*.txt
    python -m exporters.compare_encoder model_repository/sentiment --table build/quality-texts/held_out_reviews.csv

Sentences of editorials, of customers' reviews of products and of film reviews, from the archive of film_reviews.py, put
together again: there they stand in their order, with the number of the article before that of the sentence.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

if not __package__:  # started as a file: let `examples` be found as it is with `python -m examples.quality_texts`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from examples.film_reviews import INNER_FOLDER, fetch_archive, numbered_sentences, read_film_reviews
from examples.finetune_classifier import DEFAULT_HELD_OUT_SHARE, DEFAULT_SEED
from examples.labelled_texts import DataError, LabelledText, split_texts

REPOSITORY = Path(__file__).resolve().parents[1]
MEMBERS = {
    "editorials": f"{INNER_FOLDER}/nytEditorialSnippets_GroundTruth.txt",
    "films": f"{INNER_FOLDER}/movieReviewSnippets_GroundTruth.txt",
    "products": f"{INNER_FOLDER}/amazonReviewSnippets_GroundTruth.txt",
}
# Some 16,000 tokens each: enough for a standard error of a tenth of a percent over all three.
CHARACTERS_EACH = 70_000


def articles(sentences: Iterable[tuple[str, str]]) -> Iterable[str]:
    """The texts of (number, sentence): numbers are "7_2" for the second sentence of article 7, or "7" for all of it."""
    for _, group in groupby(sentences, key=lambda sentence: sentence[0].partition("_")[0]):
        yield " ".join(sentence.replace("''", '"') for _, sentence in group)


def first_articles(texts: Iterable[str], characters: int) -> str:
    """Whole texts from the first on, as paragraphs, until there are so many characters."""
    taken: list[str] = []
    for text in texts:
        if sum(map(len, taken)) >= characters:
            break
        taken.append(text)
    return "\n\n".join(taken) + "\n"


def write_table(texts: Iterable[LabelledText], path: Path) -> None:
    """A CSV with the columns text and label."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("text", "label"))
        rows.writerows((item.text, item.label) for item in texts)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0 done, 2 bad input."""
    parser = argparse.ArgumentParser(prog="quality_texts.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--downloads", type=Path, default=REPOSITORY / "build/downloads", metavar="FOLDER")
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build/quality-texts", metavar="FOLDER")
    arguments = parser.parse_args(argv)
    try:
        archive = fetch_archive(arguments.downloads)
        texts = {name: articles(numbered_sentences(archive, member)) for name, member in MEMBERS.items()}
        written = {name: first_articles(text, CHARACTERS_EACH) for name, text in texts.items()}
        reviews = split_texts(read_film_reviews(archive), DEFAULT_HELD_OUT_SHARE, DEFAULT_SEED)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (arguments.output / f"{name}.txt").write_text(text, encoding="utf-8")
    write_table(reviews.held_out, arguments.output / "held_out_reviews.csv")
    print(f"wrote {', '.join(f'{name}.txt' for name in written)} and held_out_reviews.csv to {arguments.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
