"""Tables and bars in plain text."""

import unicodedata
from collections.abc import Sequence

COLUMN_GAP = "  "
BAR_WIDTH = 20
TEXT_WIDTH = 48  # of a text that is a cell


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell on a terminal, two blanks apart."""
    lines = [header, *rows]
    widths = [max(display_width(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        COLUMN_GAP.join(
            cell + " " * (width - display_width(cell)) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in lines
    )


def display_width(text: str) -> int:
    """Cells of a terminal that a text takes: two for East Asian wide characters, none for combining marks."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def shorten(text: str, width: int) -> str:
    """The text on one line, cut to `width` cells with an ellipsis at the end."""
    line = " ".join(text.split())
    if display_width(line) <= width:
        return line
    while display_width(line) > width - 1:
        line = line[:-1]
    return line + "…"


def bar(share: float) -> str:
    """A bar for a share from 0 to 1; what lies outside is drawn as the nearer end."""
    filled = round(min(max(share, 0.0), 1.0) * BAR_WIDTH)
    return "█" * filled + "·" * (BAR_WIDTH - filled)
