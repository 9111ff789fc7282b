"""The texts to embed: lengths as they were recorded, words of real sentences."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

LENGTHS_FILE = Path(__file__).with_name("lengths.json")
TOKEN_LIMIT = 256  # Of all-MiniLM-L6-v2, special tokens included.
SPECIAL_TOKENS = 2  # One before and one after a text.
_SEED = 20_241_126


@dataclass(frozen=True)
class SizedTexts:
    """Texts in arrival order, and how many tokens each has, special ones included."""

    texts: tuple[str, ...]
    tokens: tuple[int, ...]

    def by_length(self) -> SizedTexts:
        """The same, shortest first."""
        order = sorted(range(len(self.texts)), key=self.tokens.__getitem__)
        return SizedTexts(tuple(self.texts[i] for i in order), tuple(self.tokens[i] for i in order))


def recorded_lengths() -> list[int]:
    """Tokens of each text, special ones included, in arrival order (record_lengths.py says whose)."""
    lengths: list[int] = json.loads(LENGTHS_FILE.read_text())
    return lengths


class TextSource:
    """Makes texts of the recorded lengths."""

    def __init__(self, sentences: Sequence[str], tokenizer: Tokenizer, lengths: Sequence[int]) -> None:
        """`tokenizer` must split at spaces, so that the tokens of a text are those of its words."""
        words = " ".join(sentences).split()
        sizes = {word: len(tokenizer.encode(word, add_special_tokens=False).ids) for word in dict.fromkeys(words)}
        self._words = [(word, sizes[word]) for word in words if sizes[word]]
        self._single = next(word for word, size in self._words if size == 1)
        self._lengths = lengths

    @classmethod
    def of_film_reviews(cls, archive: Path, tokenizer_file: Path) -> Self:
        """From the sentences that `sentiment` is trained on. Raises DataError."""
        from examples.film_reviews import read_film_reviews

        dataset = read_film_reviews(archive)
        tokenizer = Tokenizer.from_file(str(tokenizer_file))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return cls([row.text for row in dataset.texts], tokenizer, recorded_lengths())

    def sample(self, count: int, variant: str) -> SizedTexts:
        """`count` texts; each variant begins elsewhere in the lengths, and its texts elsewhere in the sentences."""
        chooser = random.Random(f"{_SEED} {variant}")
        first = chooser.randrange(len(self._lengths))
        tokens = tuple(self._lengths[(first + number) % len(self._lengths)] for number in range(count))
        return SizedTexts(tuple(self._text(length - SPECIAL_TOKENS, chooser) for length in tokens), tokens)

    def _text(self, tokens: int, chooser: random.Random) -> str:
        """Words that follow each other, of exactly `tokens` tokens; one that would be too much is left out."""
        chosen: list[str] = []
        for word, size in self._from(chooser.randrange(len(self._words))):
            if tokens == 0:
                break
            if size <= tokens:
                chosen.append(word)
                tokens -= size
        return " ".join(chosen)

    def _from(self, place: int) -> Iterator[tuple[str, int]]:
        yield from self._words[place:]
        yield from self._words[:place]
        while True:
            yield self._single, 1
