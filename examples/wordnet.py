"""Nouns of WordNet 3.0 (Princeton University, free licence), as Debian's package wordnet-base ships them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from examples.labelled_texts import DataError

WORDNET = Path("/usr/share/wordnet")
_NO_WORD = re.compile(r"[^a-z ]")  # Proper names, numbers and the like.


@dataclass(frozen=True)
class Sense:
    """One meaning of a noun. `parents` are what it is a kind of, `domains` the fields that it belongs to."""

    word: str
    definition: str
    examples: tuple[str, ...]
    parents: tuple[str, ...]
    domains: tuple[str, ...]


def read_nouns(folder: Path = WORDNET) -> dict[str, Sense]:
    """Senses by their place in the file.

    Raises:
        DataError: the files are not there or not WordNet's.
    """
    try:
        lines = (folder / "data.noun").read_text(encoding="ascii").splitlines()
        return dict(_sense(line) for line in lines if not line.startswith("  "))
    except OSError:
        raise DataError(f"{folder}: there is no WordNet here: apt-get install wordnet-base") from None
    except (ValueError, IndexError) as error:
        raise DataError(f"{folder / 'data.noun'}: not WordNet's: {error}") from None


def read_common(folder: Path = WORDNET) -> dict[str, str]:
    """Nouns that were met in WordNet's own tagged texts, with the place of their commonest sense."""
    try:
        rows = [line.split() for line in (folder / "index.noun").read_text(encoding="ascii").splitlines()]
    except OSError:
        raise DataError(f"{folder}: there is no WordNet here: apt-get install wordnet-base") from None
    common = {}
    for row in rows:
        # word n senses pointers [pointer ...] senses tagged_senses place [place ...]
        if len(row) < 6 or row[1] != "n":
            continue
        at = 4 + int(row[3])
        word = row[0].replace("_", " ")
        if int(row[at + 1]) > 0 and not _NO_WORD.search(word):
            common[word] = row[at + 2]
    return common


def ancestors(senses: dict[str, Sense], place: str) -> set[str]:
    """Places of everything that the sense is a kind of."""
    found: set[str] = set()
    waiting = list(senses[place].parents)
    while waiting:
        parent = waiting.pop()
        if parent not in found:
            found.add(parent)
            waiting += senses[parent].parents
    return found


def _sense(line: str) -> tuple[str, Sense]:
    data, _, gloss = line.partition(" | ")
    fields = data.split()
    words = int(fields[3], 16)
    at = 4 + 2 * words
    parents, domains = [], []
    for symbol, place, kind, _ in _quadruples(fields[at + 1 : at + 1 + 4 * int(fields[at])]):
        if kind == "n" and symbol in ("@", "@i"):
            parents.append(place)
        if kind == "n" and symbol == ";c":
            domains.append(place)
    definition, _, rest = gloss.strip().partition('; "')
    examples = tuple(part.strip(' "') for part in rest.split('"; "') if part)
    return fields[0], Sense(fields[4].replace("_", " "), definition.strip(), examples, tuple(parents), tuple(domains))


def _quadruples(fields: list[str]) -> Iterator[tuple[str, str, str, str]]:
    for at in range(0, len(fields), 4):
        yield fields[at], fields[at + 1], fields[at + 2], fields[at + 3]
