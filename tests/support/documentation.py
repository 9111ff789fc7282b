"""Runs the examples of a page of the documentation, and compares what they print with what the page shows."""

import contextlib
import io
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```(python|console|sh|text)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e-?\d+)?")
_BARS = re.compile(r"[█·│]+")
ELLIPSIS = "..."


@dataclass(frozen=True)
class Example:
    """One block. `line` is where it is in the page; `shown` is what a Python block prints, None if nothing is said."""

    language: str
    code: str
    line: int
    shown: str | None = None


def examples(page: str) -> Iterator[Example]:
    """The blocks of Python and of the console, in order. A block of text right after Python is what it prints."""
    found = [Example(match[1], match[2], page.count("\n", 0, match.start()) + 1) for match in _BLOCK.finditer(page)]
    for block, following in zip(found, [*found[1:], None], strict=True):
        if block.language == "text":
            continue
        answers = block.language == "python" and following is not None and following.language == "text"
        yield Example(block.language, block.code, block.line, following.code if answers and following else None)


def commands(code: str) -> Iterator[tuple[str, str]]:
    """Commands of a console block, and the output that is shown for each; of a shell's, which has none, its lines."""
    if not code.startswith("$ "):
        yield from ((command, "") for command in code.replace("\\\n", " ").splitlines() if command)
        return
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        while command.endswith("\\"):
            continued, _, shown = shown.partition("\n")
            command = f"{command}\n{continued}"
        yield command, shown


def same_but_for_numbers(printed: str, shown: str) -> bool:
    """Whether outputs are the same but for numbers, bars and blanks: a model that was trained anew has other scores.

    A line of three dots in `shown` stands for any lines.
    """
    pattern = r"\n".join(r"(.*\n)*?.*" if line == ELLIPSIS else re.escape(line) for line in _plain(shown))
    return re.fullmatch(pattern, "\n".join(_plain(printed))) is not None


def _plain(output: str) -> list[str]:
    lines = (" ".join(_BARS.sub(" ", _NUMBER.sub("#", line)).split()) for line in output.strip().splitlines())
    return [line for line in lines if line]


def run_python(code: str, names: dict[str, Any]) -> str:
    """Runs a block in the namespace that all blocks share; what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<documentation>", "exec"), names)
    return printed.getvalue()


def run_command(command: str, folder: Path, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Runs a command line in `folder`, with `naiad` on its path; both outputs come as one."""
    binaries = folder / ".bin"
    binaries.mkdir(exist_ok=True)
    naiad = binaries / "naiad"
    naiad.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m services.cli.main "$@"\n')
    naiad.chmod(0o755)
    path = f"{binaries}:{environment['PATH']}"
    return subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env={**environment, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
