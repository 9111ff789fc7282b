"""naiad's encoder and its peers side by side: the same texts and checkpoint, in turns, in one run.

`make bench-encoder`, or `python -m benchmarks.encoders [--quick] [--peers 'OpenVINO bf16,CTranslate2 int8']
[--encoder embed,embed_int8] [--loads bulk,clients] [--repeats 3] [--extend] [--output FILE.json]`. Writes JSON, a
Markdown file and plots beside it after every round; docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.encoders.check import EncoderCheck
from benchmarks.encoders.loads import FULL, QUICK, Sizes, all_loads, warm_up
from benchmarks.encoders.page import page
from benchmarks.encoders.texts import TextSource
from benchmarks.fleet import Fleet
from benchmarks.rounds import Earlier, Presentation, Report, run_rounds
from benchmarks.systems.catalogue import System
from benchmarks.systems.encoder_catalogue import DEFAULT_ENTRIES, encoder_peers, naiad_encoders
from exporters.demo import embed_checkpoint
from tests.support.stack import REPOSITORY_ROOT

KINDS = ("bulk", "clients")
CHECKED_TEXTS = 64


@dataclass(frozen=True)
class Options:
    """What is run."""

    entries: tuple[str, ...]
    peers: tuple[str, ...]
    loads: tuple[str, ...]
    repeats: int
    sizes: Sizes
    extend: bool
    output: Path

    def systems(self) -> list[System]:
        """Every form of naiad, and the chosen peers."""
        return [*naiad_encoders(self.entries), *(peer for peer in encoder_peers() if peer.name in self.peers)]


def parse(argv: Sequence[str] | None = None) -> Options:
    """From the command line; ends the process with a usage message if that is wrong."""
    known = tuple(peer.name for peer in encoder_peers())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.encoders", description=__doc__)
    parser.add_argument(
        "--encoder", default=",".join(DEFAULT_ENTRIES), help="models of the repository to embed with (%(default)s)"
    )
    parser.add_argument("--peers", default=",".join(known), help="names, or an empty text for none (%(default)s)")
    parser.add_argument("--loads", default=",".join(KINDS), help="kinds of load (%(default)s)")
    parser.add_argument("--repeats", type=int, help="rounds; default: 3, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="fewer texts; some minutes")
    parser.add_argument("--extend", action="store_true", help="add the rounds to those that --output holds already")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/encoders.json"))
    given = parser.parse_args(argv)
    chosen = {name: tuple(filter(None, getattr(given, name).split(","))) for name in ("encoder", "peers", "loads")}
    for name, allowed in (("peers", known), ("loads", KINDS)):
        if unknown := set(chosen[name]) - set(allowed):
            parser.error(f"--{name}: no {', '.join(sorted(unknown))}; there are {', '.join(allowed)}")
    repeats = given.repeats or (2 if given.quick else 3)
    sizes = QUICK if given.quick else FULL
    return Options(
        chosen["encoder"], chosen["peers"], chosen["loads"], repeats, sizes, given.extend, given.output
    )  # fmt: skip


def measure(options: Options, threads: int) -> str:
    """All rounds; returns the Markdown page."""
    from benchmarks.encoders.plots import draw
    from benchmarks.transformers_models import TransformersEncoder
    from examples.film_reviews import fetch_archive

    archive = fetch_archive(REPOSITORY_ROOT / "build" / "downloads")
    source = TextSource.of_film_reviews(archive, embed_checkpoint() / "tokenizer.json")
    check = EncoderCheck(
        source.sample(CHECKED_TEXTS, "check"),
        source.sample(options.sizes.trial, "trial"),
        TransformersEncoder().vectors,
    )
    about = {"threads": threads, "encoders": options.entries, "sizes": asdict(options.sizes)}
    earlier = Earlier.read(options.output) if options.extend else Earlier()
    report = Report(options.output, about, earlier, Presentation(page, draw))
    fleet = Fleet(options.systems(), check, warm_up(source), threads, options.output.parent / "logs")
    loads = [load for load in all_loads(source, options.sizes) if load.kind in options.loads]
    return run_rounds(fleet, report, loads, options.repeats)


def main() -> None:
    """Measures and prints the page."""
    # A system that sleeps cannot see that the driver is gone: `kill` must end them, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("encoders: terminated"))
    print(measure(parse(), os.cpu_count() or 1))


if __name__ == "__main__":
    main()
