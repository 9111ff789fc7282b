"""Files of texts for bulk classification, and a check of what came of them."""

import csv
import random
from pathlib import Path

_WORDS = (
    "a",
    "the",
    "film",
    "movie",
    "actor",
    "plot",
    "dull",
    "bright",
    "funny",
    "slow",
    "great",
    "awful",
    "not",
    "very",
    "never",
    "and",
    "but",
    "story",
)


def write_texts(path: Path, rows: int, most_words: int = 8) -> None:
    """A CSV file with the columns `id` and `text`; the texts differ, and some span two lines."""
    chance = random.Random(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "text"])
        for number in range(rows):
            text = " ".join(chance.choices(_WORDS, k=chance.randint(1, most_words)))
            table.writerow([number, f'{text}\n"{number}"' if number % 97 == 0 else text])


def check_results(source: Path, output: Path) -> int:
    """Asserts that each row of `source` is in `output` once, in order, with a label; the number of rows."""
    with source.open(newline="", encoding="utf-8") as rows, output.open(newline="", encoding="utf-8") as results:
        count = 0
        for row, result in zip(csv.DictReader(rows), csv.DictReader(results), strict=True):
            assert {name: result[name] for name in row} == row
            assert result["label"] in ("positive", "negative"), result
            assert 0.5 <= float(result["score"]) <= 1
            assert result["error"] == ""
            count += 1
    return count
