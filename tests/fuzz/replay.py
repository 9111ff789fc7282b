"""Runs a Python target on each file of a corpus: `python -m tests.fuzz.replay NAME FOLDER...`. Fails at a finding.

In a process of its own: a target may set limits for the whole of it.
"""

import sys
from pathlib import Path

from tests.fuzz.targets import make_target


def main() -> int:
    """The exit code."""
    target = make_target(sys.argv[1])
    files = sorted(path for folder in sys.argv[2:] for path in Path(folder).iterdir() if path.is_file())
    for path in files:
        try:
            target(path.read_bytes())
        except BaseException:
            print(f"finding: {path}", file=sys.stderr)
            raise
    print(f"{len(files)} inputs replayed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
