"""naiad and its peers side by side: the same prompts and weights, in turns, in one run.

`make bench`, or `python -m benchmarks.side_by_side [--quick] [--peers llama.cpp,transformers] [--repeats 3]
[--loads decode,prefill] [--extend] [--output FILE.json]`. Writes JSON, a Markdown file and plots beside it after every
round; docs/benchmarks.md says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.comparison import Comparison, Row
from benchmarks.fleet import Fleet
from benchmarks.limits import machine_limits
from benchmarks.loads import Load, all_loads
from benchmarks.report import machine, write_report
from benchmarks.results_page import page
from benchmarks.sanity import SanityCheck
from benchmarks.systems.catalogue import System, naiad_systems, peers
from tests.support.models import demo_model

KINDS = ("decode", "prefill", "prefix", "open", "embed")


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
    parser.add_argument("--quick", action="store_true", help="fewer, shorter open loops and texts; a few minutes")
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


class Report:
    """The figures of a run, written after every round."""

    def __init__(self, options: Options, threads: int) -> None:
        earlier: dict[str, Any] = {}
        if options.extend and options.output.is_file():
            earlier = json.loads(options.output.read_text())
        self._output = options.output
        self.rows = [Row(**fields) for fields in earlier.get("rows", [])]
        self._about = {
            "threads": threads,
            "decoder": options.decoder,
            "quick": options.quick,
            "limits": earlier.get("limits") or machine_limits(threads),
        }
        self._earlier_systems = {system["name"]: system for system in earlier.get("systems", [])}

    @property
    def next_round(self) -> int:
        """A number that no row has."""
        return 1 + max((row.round for row in self.rows), default=0)

    def write(self, systems: list[dict[str, Any]]) -> None:
        """JSON, Markdown and plots."""
        from benchmarks.plots import draw

        known = {
            **self._earlier_systems,
            **{system["name"]: _merged(system, self._earlier_systems) for system in systems},
        }
        figures = {**self._about, "systems": list(known.values()), "rows": [asdict(row) for row in self.rows]}
        write_report(self._output, figures)
        compared = Comparison(self.rows)
        self._output.with_suffix(".md").write_text(page({"machine": machine(), **figures}, compared))
        draw(compared, self._output.parent, self._output.stem)


def _merged(system: dict[str, Any], earlier: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """What is known of a system; its agreement with the reference as before if the reference took no part now."""
    before = earlier.get(system["name"], {})
    problem = "; ".join(filter(None, dict.fromkeys([before.get("problem", ""), system["problem"]])))
    return {**system, "sanity": {**before.get("sanity", {}), **system["sanity"]}, "problem": problem}


def measure(options: Options, threads: int) -> str:
    """All rounds; returns the Markdown page."""
    report = Report(options, threads)
    check = SanityCheck(demo_model(options.decoder) / "tokenizer.json")
    fleet = Fleet(options.systems(), check, threads, options.output.parent / "logs")
    try:
        fleet.start()
        for _ in range(options.repeats):
            number, begun = report.next_round, time.monotonic()
            fleet.begin_round()
            for turn, load in enumerate(options.chosen_loads()):
                report.rows += fleet.measure(load, number, first=number + turn)
                print(f"round {number}: {load.name} done", flush=True)
            print(f"round {number} took {time.monotonic() - begun:.0f} s", flush=True)
            report.write(fleet.report())
    except BaseException:
        # What was measured until somebody ended it is not lost.
        report.write(fleet.report())
        raise
    finally:
        fleet.stop()
    return options.output.with_suffix(".md").read_text()


def main() -> None:
    """Measures and prints the page."""
    # A system that sleeps cannot see that the driver is gone: `kill` must end them, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("side_by_side: terminated"))
    print(measure(parse(), os.cpu_count() or 1))


if __name__ == "__main__":
    main()
