"""What Triton's log tells of its end."""

import re
from collections.abc import Sequence

from services.supervisor.child import LogReading

# E1123 10:00:00.000000 12 model_lifecycle.cc:642] "..."
PREFIX = re.compile(r"^[A-Z]\d{4} [\d:.]+ \d+ \S+\] ")
FAILURE = re.compile(r"^E\d{4} |^error:|^Signal|terminate called")
MODEL_FAILURE = re.compile(r"failed to load '[^']+' version \d+: ")
# Said on every machine without a GPU.
HARMLESS = "CudaDriverHelper has not been initialized"


class TritonLog(LogReading):
    """Keeps lines about failures: around them stand tables of settings that fill a screen."""

    def important(self, lines: Sequence[str]) -> Sequence[str]:
        """Lines about failures; all lines when there is none."""
        return [line for line in lines if FAILURE.search(line) and HARMLESS not in line] or lines

    def cause(self, lines: Sequence[str]) -> str | None:
        """The first model that did not load, else the last line."""
        if not lines:
            return None
        line = next((line for line in lines if MODEL_FAILURE.search(line)), lines[-1])
        return PREFIX.sub("", line).strip().strip('"')
