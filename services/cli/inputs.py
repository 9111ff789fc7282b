"""Where a command's texts come from: its arguments or standard input."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from services.cli import exit_codes

BATCH_ITEMS = 256
ItemT = TypeVar("ItemT")


def one_text(argument: str | None, what: str) -> str:
    """The argument; all of standard input when it is "-" or absent."""
    if argument is not None and argument != "-":
        return argument
    return _standard_input(argument, what).read()


def texts(arguments: Sequence[str], what: str) -> list[str]:
    """The arguments; the lines of standard input that are not blank when there are none or only "-"."""
    if arguments and list(arguments) != ["-"]:
        return list(arguments)
    lines = [line.rstrip("\r\n") for line in _standard_input(arguments[0] if arguments else None, what)]
    found = [line for line in lines if line.strip()]
    if not found:
        raise exit_codes.CommandError(f"standard input has no {what}", exit_codes.WRONG_USAGE)
    return found


def file_or_text(argument: str, text_start: str, option: str) -> str:
    """The argument itself if it starts with `text_start`, else what is in the file of that name."""
    if argument.lstrip().startswith(text_start):
        return argument
    try:
        return Path(argument).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a UTF-8 text"
        raise exit_codes.CommandError(f"{option}: {argument}: {reason}", exit_codes.WRONG_USAGE) from error


def batches(items: Sequence[ItemT]) -> Iterator[Sequence[ItemT]]:
    """The items in the portions that go into one call: its response stays small, and results appear early."""
    for start in range(0, len(items), BATCH_ITEMS):
        yield items[start : start + BATCH_ITEMS]


def _standard_input(argument: str | None, what: str) -> TextIO:
    # Without an explicit "-", a terminal would leave the user before a silent prompt.
    if argument is None and sys.stdin.isatty():
        raise exit_codes.CommandError(f"no {what}: give it as an argument, or pipe it in", exit_codes.WRONG_USAGE)
    return sys.stdin
