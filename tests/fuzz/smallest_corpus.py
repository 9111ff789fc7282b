"""Copies the inputs of a Python target that are worth keeping: `python -m tests.fuzz.smallest_corpus NAME TO FROM...`.

Smallest first, each that reaches a branch which none before did. libFuzzer's own way of it starts its process anew,
which atheris cannot.
"""

import shutil
import sys
from pathlib import Path

import coverage

from tests.fuzz.corpus_coverage import PYTHON_SOURCES
from tests.fuzz.targets import make_target


def main() -> None:
    """Copies them."""
    name, to, *folders = sys.argv[1:]
    include = PYTHON_SOURCES[name.partition(".")[0]].split(",")
    measured = coverage.Coverage(data_file=None, branch=True, include=include)
    measured.start()
    target = make_target(name)
    measured.stop()
    reached: set[tuple[str, tuple[int, int]]] = set()
    paths = [path for folder in folders for path in Path(folder).iterdir()]
    for path in sorted(paths, key=lambda path: (path.stat().st_size, path.name)):
        measured.erase()
        measured.start()
        target(path.read_bytes())
        measured.stop()
        data = measured.get_data()
        branches = {(file, arc) for file in data.measured_files() for arc in data.arcs(file) or ()}
        if not branches <= reached:
            reached |= branches
            shutil.copy(path, to)


if __name__ == "__main__":
    main()
