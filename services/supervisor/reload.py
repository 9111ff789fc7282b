"""Takes up changes of the repository while the system runs: scan, restart Triton, and back if it does not load."""

import asyncio
from collections.abc import Sequence

from services.common.model_scan import ModelScanError
from services.supervisor.errors import StartError
from services.supervisor.reporter import Reporter
from services.supervisor.served_models import ServedModels, State
from services.supervisor.supervisor import Supervisor


class ReloadError(Exception):
    """The models of before are still served; the message is one line that says why."""


class ModelReloader:
    """One reload at a time. `engines` are the names of the members that have the models loaded."""

    def __init__(
        self, models: ServedModels, supervisor: Supervisor, engines: Sequence[str], reporter: Reporter
    ) -> None:
        self._models = models
        self._supervisor = supervisor
        self._engines = engines
        self._reporter = reporter
        self._lock = asyncio.Lock()

    async def reload(self) -> str:
        """Serves the repository as it is now; says in one line what has changed. Raises ReloadError."""
        async with self._lock:
            try:
                outcome = await self._reload()
            except (ModelScanError, StartError, OSError) as error:
                self._reporter.progress(f"models are not reloaded: {error}")
                raise ReloadError(f"the models of before are still served: {error}") from error
            self._reporter.progress(outcome)
            return outcome

    async def _reload(self) -> str:
        state = await asyncio.to_thread(self._models.stage)
        before = self._models.state
        changes = before.changes(state)
        if not changes:
            await asyncio.to_thread(self._models.discard, state)
            return "no model has changed"
        self._reporter.progress(f"reloading models: {' '.join(changes)}")
        try:
            for engine in self._engines:
                problem = await self._restart(engine, before, state)
                if problem:
                    await self._go_back(engine, before)
                    raise StartError(f"{engine} did not start with the new ones: {problem}")
        finally:
            await asyncio.to_thread(self._models.discard, state if self._models.state is before else before)
        return f"models reloaded: {' '.join(changes)}"

    async def _restart(self, engine: str, before: State, state: State) -> str | None:
        return await self._supervisor.replace(
            engine, lambda: self._models.switch(state), lambda: self._models.switch(before)
        )

    async def _go_back(self, failed: str, before: State) -> None:
        """Engines that had the new models before `failed` was tried get the old ones again."""
        for engine in self._engines[: self._engines.index(failed)]:
            await self._supervisor.replace(engine, lambda: self._models.switch(before), lambda: None)
