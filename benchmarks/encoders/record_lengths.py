"""Records how long real texts are: `python -m benchmarks.encoders.record_lengths` writes lengths.json beside this file.

The traffic is a mixture of what packages ship, in tokens of the checkpoint that is measured, special ones included:

- half are short texts that people wrote to each other: tweets and the sentences of film reviews, product
  reviews and editorials, in equal parts, from the source distribution of PyPI's vaderSentiment;
- half are longer ones: docstrings of Python's standard library and paragraphs of licences, in equal parts.

Texts longer than the model's limit count as the limit: a server would cut or split them. The file is committed, so that
every run has the same traffic whatever Python and packages it finds.
"""

from __future__ import annotations

import ast
import io
import json
import random
import statistics
import sysconfig
import tarfile
from collections.abc import Iterator
from pathlib import Path

from tokenizers import Tokenizer

from benchmarks.encoders.texts import LENGTHS_FILE, TOKEN_LIMIT
from examples.film_reviews import OUTER_MEMBER, fetch_archive
from exporters.demo import embed_checkpoint
from tests.support.stack import REPOSITORY_ROOT

COUNT = 2_000
LONG_PART = 0.5
_SHORT_TEXTS = ("tweets", "movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
_SEED = 20_241_126


def short_texts(archive: Path) -> list[list[str]]:
    """Tweets and sentences, a list a kind."""
    with tarfile.open(archive) as outer:
        packed = outer.extractfile(OUTER_MEMBER)
        assert packed is not None
        with tarfile.open(fileobj=io.BytesIO(packed.read())) as inner:
            members = [inner.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt") for name in _SHORT_TEXTS]
            lines = [member.read().decode("utf-8", "replace").splitlines() for member in members if member is not None]
    return [[line.split("\t")[-1] for line in kind] for kind in lines]


def docstrings(folder: Path) -> Iterator[str]:
    """Of every module, class and function of the standard library's top folder."""
    for file in sorted(folder.glob("*.py")):
        for node in ast.walk(ast.parse(file.read_bytes())):
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
                text = ast.get_docstring(node)
                if text:
                    yield text


def licence_paragraphs(folder: Path) -> Iterator[str]:
    """Of every licence that an installed package ships."""
    for file in sorted(folder.glob("*.dist-info/**/LICENSE*")):
        if file.is_file():
            for paragraph in file.read_text(errors="replace").split("\n\n"):
                if len(paragraph.split()) > 2:
                    yield paragraph


def mixed(short: list[list[str]], long: list[list[str]], chooser: random.Random) -> Iterator[str]:
    """COUNT texts in arrival order."""
    for _ in range(COUNT):
        yield chooser.choice(chooser.choice(long if chooser.random() < LONG_PART else short))


def main() -> None:
    """Writes the file and says what is in it."""
    tokenizer = Tokenizer.from_file(str(embed_checkpoint() / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    short = short_texts(fetch_archive(REPOSITORY_ROOT / "build" / "downloads"))
    places = {name: Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")}
    long = [list(docstrings(places["stdlib"])), list(licence_paragraphs(places["purelib"]))]
    texts = list(mixed(short, long, random.Random(_SEED)))
    lengths = [min(TOKEN_LIMIT, len(found.ids)) for found in tokenizer.encode_batch(texts)]
    LENGTHS_FILE.write_text(json.dumps(lengths) + "\n")
    cuts = statistics.quantiles(lengths, n=100)
    print(f"{COUNT} texts: mean {statistics.mean(lengths):.1f} tokens, least {min(lengths)}, "
          f"p50 {cuts[49]:.0f}, p90 {cuts[89]:.0f}, p99 {cuts[98]:.0f}, greatest {max(lengths)}")  # fmt: skip


if __name__ == "__main__":
    main()
