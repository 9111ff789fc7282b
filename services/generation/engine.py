"""The engine as the logic sees it; TritonStream is one."""

from collections.abc import Callable, Mapping
from typing import Protocol

from services.common.errors import NaiadError, Reason
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


class LoadedModelsOnly:
    """Passes on only requests for models that Triton has loaded: for others Triton 2.51 may abort (decision 0002)."""

    def __init__(self, engine: Engine, is_loaded: Callable[[str], bool]) -> None:
        self._engine = engine
        self._is_loaded = is_loaded

    def submit(
        self, model: str, inputs: Mapping[str, Array], parameters: Mapping[str, ParameterValue]
    ) -> EngineRequest:
        """Starts one. Raises ENGINE_UNAVAILABLE."""
        if not self._is_loaded(model):
            raise NaiadError(Reason.ENGINE_UNAVAILABLE, f"model {model} is not loaded")
        return self._engine.submit(model, inputs, parameters)
