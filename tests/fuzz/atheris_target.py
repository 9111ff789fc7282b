"""Fuzzes one target of targets.py with atheris: `python -m tests.fuzz.atheris_target NAME [libFuzzer's arguments]`."""

import sys

import atheris


def main() -> None:
    """Runs until libFuzzer ends."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["services", "jinja2"]):
        from tests.fuzz.targets import make_target

        target = make_target(name)  # imports what it needs
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
