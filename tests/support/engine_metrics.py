"""The engine's metrics (docs/contracts.md, section 6), read from the text of Triton's endpoint."""

from __future__ import annotations

import re
import urllib.request


class EngineMetrics(dict[tuple[str, str], float]):
    """Series of one model: (name, labels beside model and version as "key=value,...") -> value."""

    @classmethod
    def parse(cls, text: str, model: str) -> EngineMetrics:
        """What a page says of version 1 of `model`."""
        metrics = cls()
        for name, labels, value in re.findall(r"^(\w+)\{([^}]*)\} (\S+)$", text, re.MULTILINE):
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            if pairs.pop("model", None) == model and pairs.pop("version", None) == "1":
                metrics[name, ",".join(f"{key}={pairs[key]}" for key in sorted(pairs))] = float(value)
        return metrics

    def names(self) -> set[str]:
        """Names of all series."""
        return {name for name, _ in self}

    def total(self, name: str) -> float:
        """Sum of a series over its labels."""
        return sum(value for (series, _), value in self.items() if series == name)

    @property
    def unfinished(self) -> float:
        """Requests in flight or waiting."""
        return self.total("naiad_num_requests_running") + self.total("naiad_num_requests_waiting")

    @property
    def ended(self) -> float:
        """Sequences that ended in any way, and requests that were refused."""
        return self.total("naiad_request_success_total") + self.total("naiad_request_failure_total")

    def blocks(self, state: str) -> float:
        """KV blocks that are "used", "free" or "cached"."""
        return self["naiad_kv_cache_blocks", f"state={state}"]


def scrape(port: int) -> str:
    """The metrics page of a process on this machine."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        return str(answer.read().decode())
