"""Writes docs/configuration.md: `python -m services.common.settings_page > docs/configuration.md`."""

import dataclasses
import sys

from services.common.setting import specs_of
from services.common.settings import (
    ClassificationSettings,
    ClientSettings,
    CommonSettings,
    GenerationSettings,
    SupervisorSettings,
    TokenizationSettings,
    TritonSettings,
)

_SECTIONS: tuple[tuple[str, type[CommonSettings], type[CommonSettings] | None], ...] = (
    ("All services", CommonSettings, None),
    ("Services that talk to Triton (generation, classification)", TritonSettings, CommonSettings),
    ("Tokenization", TokenizationSettings, CommonSettings),
    ("Generation", GenerationSettings, TritonSettings),
    ("Classification", ClassificationSettings, TritonSettings),
    ("`naiad serve`", SupervisorSettings, CommonSettings),
    ("Commands that call the services", ClientSettings, CommonSettings),
)

_HEADER = """# Configuration

Every setting is an environment variable, read once at start. A `NAIAD_` variable that is not on this page, or a
value out of range, stops the process with one line that says which. This page is generated from the settings classes:
`python -m services.common.settings_page > docs/configuration.md`.
"""


def render_page() -> str:
    """The whole page as Markdown."""
    parts = [_HEADER]
    for title, settings_class, base in _SECTIONS:
        inherited = set(specs_of(base)) if base else set()
        rows = [
            f"| `{spec.env}` | `{_default_text(settings_class, name)}` | {spec.range_text()} | {spec.doc} |"
            for name, spec in specs_of(settings_class).items()
            if name not in inherited
        ]
        if rows:
            table = ["| variable | default | range | meaning |", "|---|---|---|---|", *rows]
            parts.append(f"\n## {title}\n\n" + "\n".join(table) + "\n")
    return "".join(parts)


def _default_text(settings_class: type[CommonSettings], name: str) -> str:
    default = next(field.default for field in dataclasses.fields(settings_class) if field.name == name)
    return str(default).lower() if isinstance(default, bool) else str(default)


if __name__ == "__main__":
    sys.stdout.write(render_page())
