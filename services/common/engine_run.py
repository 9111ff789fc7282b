"""What the engine did for a call and how long each part took, for the log line and the spans. Free of gRPC."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

AttributeValue = str | bool | int | float | Sequence[str]
MAX_RUNS = 32  # kept of one call; a bulk stream has any number


@dataclass(frozen=True)
class EngineRun:
    """One request to the engine. `begun_s` and `ended_s` are of the monotonic clock.

    `phases_us` are what the engine measured, in their order, in microseconds; empty when it did not get so far.
    `operation` and `attributes` follow OpenTelemetry's GenAI conventions where these have a name. No prompts in them.
    """

    operation: str
    model: str
    begun_s: float
    ended_s: float
    phases_us: Mapping[str, int] = field(default_factory=dict)
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


class EngineRuns:
    """The runs of one call: the first of them, and the time of each phase over all."""

    def __init__(self) -> None:
        self.kept: list[EngineRun] = []
        self.count = 0
        self.phases_us: dict[str, int] = {}

    def add(self, run: EngineRun) -> None:
        """Notes a run that has ended."""
        self.count += 1
        if len(self.kept) < MAX_RUNS:
            self.kept.append(run)
        for phase, duration_us in run.phases_us.items():
            self.phases_us[phase] = self.phases_us.get(phase, 0) + duration_us

    def log_fields(self) -> dict[str, float]:
        """Milliseconds of each phase."""
        return {f"{phase}_ms": round(duration_us / 1000, 3) for phase, duration_us in self.phases_us.items()}
