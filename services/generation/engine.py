"""The engine as the logic sees it; FailoverEngine is one."""

from collections.abc import Mapping
from typing import Protocol

from services.common.infer_reply import Array, InferReply, ParameterValue


class EngineRequest(Protocol):
    """One running request: one prompt and its completions."""

    async def next_replies(self) -> list[InferReply]:
        """Replies that have come since the last call, at least one. Raises NaiadError."""

    def stop(self, sequence_index: int | None = None) -> None:
        """Asks the engine to end it, or only one of its completions; last replies still come."""

    def close(self) -> None:
        """Ends it if it still runs, and hears no more of it."""


class Engine(Protocol):
    """Runs requests."""

    def submit(
        self, model: str, inputs: Mapping[str, Array], parameters: Mapping[str, ParameterValue]
    ) -> EngineRequest:
        """Starts one. Raises ENGINE_UNAVAILABLE."""
