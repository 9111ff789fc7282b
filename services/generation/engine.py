"""The engine as the logic sees it; TritonStream is one."""

from collections.abc import Mapping
from typing import Protocol

from services.common.infer_reply import Array, InferReply, ParameterValue


class EngineRequest(Protocol):
    """One running completion."""

    async def next_replies(self) -> list[InferReply]:
        """Replies that have come since the last call, at least one. Raises NaiadError."""

    def stop(self) -> None:
        """Asks the engine to end it; its last reply still comes."""

    def close(self) -> None:
        """Ends it if it still runs, and hears no more of it."""


class Engine(Protocol):
    """Runs completions."""

    def submit(
        self, model: str, inputs: Mapping[str, Array], parameters: Mapping[str, ParameterValue]
    ) -> EngineRequest:
        """Starts one. Raises ENGINE_UNAVAILABLE."""
