"""naiad and its peers side by side: the same prompts and weights, in turns, in one run.

`make bench`, or `python -m benchmarks.side_by_side [--quick] [--peers llama.cpp,transformers] [--repeats 3]
[--loads decode,prefill] [--extend] [--output FILE.json]`. Writes JSON, a Markdown file and plots beside it after every
round; docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet import Fleet
from benchmarks.limits import machine_limits
from benchmarks.loads import Decode, Load, Prefill, all_loads
from benchmarks.results_page import page
from benchmarks.rounds import Earlier, Presentation, Report, run_rounds
from benchmarks.sanity import SanityCheck
from benchmarks.systems.catalogue import System, naiad_systems, peers
from tests.support.models import demo_model

KINDS = ("decode", "prefill", "prefix", "open")


@dataclass(frozen=True)
class Options:
    """What is run."""

    decoder: str
    peers: tuple[str, ...]
    loads: tuple[str, ...]
    repeats: int
    quick: bool
    extend: bool
    output: Path

    def systems(self) -> list[System]:
        """naiad twice, and the chosen peers."""
        return [*naiad_systems(self.decoder), *(peer for peer in peers() if peer.name in self.peers)]

    def chosen_loads(self) -> list[Load]:
        """Of the chosen kinds."""
        return [load for load in all_loads(quick=self.quick) if load.kind in self.loads]


def parse(argv: Sequence[str] | None = None) -> Options:
    """From the command line; ends the process with a usage message if that is wrong."""
    known = tuple(peer.name for peer in peers())
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side", description=__doc__)
    parser.add_argument("--decoder", default="chat", help="model of the repository to generate with (%(default)s)")
    parser.add_argument("--peers", default=",".join(known), help="names, or an empty text for none (%(default)s)")
    parser.add_argument("--loads", default=",".join(KINDS), help="kinds of load (%(default)s)")
    parser.add_argument("--repeats", type=int, help="rounds; default: 3, with --quick 2")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter open loops; a few minutes")
    parser.add_argument("--extend", action="store_true", help="add the rounds to those that --output holds already")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/out/peers.json"))
    given = parser.parse_args(argv)
    chosen = {name: tuple(filter(None, getattr(given, name).split(","))) for name in ("peers", "loads")}
    for name, allowed in (("peers", known), ("loads", KINDS)):
        if unknown := set(chosen[name]) - set(allowed):
            parser.error(f"--{name}: no {', '.join(sorted(unknown))}; there are {', '.join(allowed)}")
    repeats = given.repeats or (2 if given.quick else 3)
    return Options(
        given.decoder, chosen["peers"], chosen["loads"], repeats, given.quick, given.extend, given.output
    )  # fmt: skip


# Run once each before anything counts.
WARM_UP: tuple[Load, ...] = (Decode(8, new_tokens=8), Prefill(512))


def measure(options: Options, threads: int) -> str:
    """All rounds; returns the Markdown page."""
    from benchmarks.plots import draw

    earlier = Earlier.read(options.output) if options.extend else Earlier()
    about = {
        "threads": threads,
        "decoder": options.decoder,
        "quick": options.quick,
        "limits": earlier.figures.get("limits") or machine_limits(threads),
    }
    report = Report(options.output, about, earlier, Presentation(page, draw))
    check = SanityCheck(demo_model(options.decoder) / "tokenizer.json")
    fleet = Fleet(options.systems(), check, WARM_UP, threads, options.output.parent / "logs")
    return run_rounds(fleet, report, options.chosen_loads(), options.repeats)


def main() -> None:
    """Measures and prints the page."""
    # A system that sleeps cannot see that the driver is gone: `kill` must end them, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("side_by_side: terminated"))
    print(measure(parse(), os.cpu_count() or 1))


if __name__ == "__main__":
    main()
