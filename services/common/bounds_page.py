"""Writes docs/bounds.md: `python -m services.common.bounds_page > docs/bounds.md`."""

import sys

from services.common.bounds import BOUNDS, Bound

_HEADER = """# Bounds

The most that each field of a request may hold. What is larger is refused with `INVALID_ARGUMENT`, reason
`INVALID_FIELD`, and the field's path. Sizes are checked in one pass over the message, before a model is looked up or
anything is made from it. This page is generated from the one table, `services/common/bounds.py`:
`python -m services.common.bounds_page > docs/bounds.md`.

Bytes are those of UTF-8. "Each alone": a text that is too large is the error of its own item, and the others of the
batch are answered. A whole message is bounded by `NAIAD_MAX_RECEIVE_BYTES` (`RESOURCE_EXHAUSTED`), the metadata of a
call by 8 KiB, calls in flight on one connection by `NAIAD_MAX_CONCURRENT_STREAMS`.

| message | field | bound |
|---|---|---|
"""


def render_page() -> str:
    """The whole page as Markdown."""
    rows = [
        f"| `{message}` | `{field}` | {_text(bound)} |\n"
        for message, fields in BOUNDS.items()
        for field, bound in fields.items()
        if bound != Bound()
    ]
    return _HEADER + "".join(rows)


def _text(bound: Bound) -> str:
    parts = []
    if bound.max_items is not None:
        parts.append(f"at most {bound.max_items:,} items")
    if bound.max_bytes is not None:
        parts.append(f"{'each ' if bound.max_items is not None else ''}at most {bound.max_bytes:,} bytes")
    if bound.values is not None:
        parts.append(f"{'values ' if bound.max_items is not None else ''}{bound.values}")
    return ", ".join(parts) + (" (each alone)" if bound.of_item else "")


if __name__ == "__main__":
    sys.stdout.write(render_page())
