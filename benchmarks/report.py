"""What every benchmark writes: the machine, the figures as JSON, tables in Markdown."""

import json
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "")
    return {"cpu": cpu.split(":")[-1].strip(), "cores": os.cpu_count(), "kernel": platform.release()}


def write_report(output: Path, figures: dict[str, Any]) -> None:
    """Writes the machine and the figures to `output`, and says so."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"machine": machine(), **figures}, indent=1))
    print(f"written to {output}")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which `part` (0 to 1) of the values lie."""
    ordered = sorted(values)
    return ordered[int(part * (len(ordered) - 1))]
