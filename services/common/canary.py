"""Notices a Triton that answers probes and does not infer.

Each answer of a model is noted. A model from which nothing has come for a while is asked for the smallest answer there
is; one that does not give it is silent. Under traffic no canary is sent at all, and never two at once to a model.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from services.common.errors import NaiadError, Reason
from services.common.setting import setting
from services.common.task_end import cancel_and_wait

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CanarySettings:
    """When models are asked for a sign of life, and how long they may take."""

    canary_interval_ms: int = setting(
        5_000,
        "CANARY_INTERVAL_MS",
        doc="A model that has answered nothing for this long is asked for one token, or about one short text, to see"
        " that it still infers; 0 asks never.",
        minimum=0,
        maximum=3_600_000,
    )
    canary_timeout_ms: int = setting(
        10_000,
        "CANARY_TIMEOUT_MS",
        doc="A model that answers nothing for this long after it was asked is NOT_SERVING until it does.",
        minimum=100,
        maximum=3_600_000,
    )


class AnswerTimes:
    """When each model of one Triton answered last, in seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._last_s: dict[str, float] = {}
        self.latest_s = float("-inf")  # of all models, forgotten ones too

    def note(self, model: str) -> None:
        """Notes an answer that has just come; called for each one, so it does no more."""
        self.latest_s = self._last_s[model] = time.monotonic()

    def last_s(self, model: str) -> float:
        """When the last one came; minus infinity if none has."""
        return self._last_s.get(model, float("-inf"))

    def forget(self, model: str) -> None:
        """Drops what was noted: answers of a Triton that is gone say nothing about the next one."""
        self._last_s.pop(model, None)


# One tiny inference of a model; its answer must be noted in AnswerTimes. Raises NaiadError.
Ask = Callable[[str], Awaitable[None]]


@dataclass
class _Asked:
    """What a model has been asked. `unanswered_since_s` is when, of the first question that nothing has come after."""

    last_s: float = float("-inf")
    unanswered_since_s: float | None = None
    task: asyncio.Task[None] | None = None


class Canary:
    """Asks the models of one Triton, and tells which of them answer. `on_answer` is called after each answer."""

    def __init__(self, answers: AnswerTimes, ask: Ask, settings: CanarySettings) -> None:
        self._answers = answers
        self._ask = ask
        self._interval_s = settings.canary_interval_ms / 1000
        self._timeout_s = settings.canary_timeout_ms / 1000
        self._asked: dict[str, _Asked] = {}
        self._listed: frozenset[str] = frozenset()
        self.on_answer: Callable[[], None] = lambda: None

    @property
    def enabled(self) -> bool:
        """Whether it ever asks; if not, all models count as answering."""
        return self._interval_s > 0

    def is_silent(self, model: str) -> bool:
        """Whether `model` was asked and has answered nothing, not even other requests, for the timeout."""
        asked = self._asked.get(model)
        if asked is None or asked.unanswered_since_s is None:
            return False
        if self._answers.last_s(model) >= asked.unanswered_since_s:
            return False
        return time.monotonic() - asked.unanswered_since_s >= self._timeout_s

    def answers(self, model: str) -> bool:
        """Whether `model` has answered something since it was loaded, and is not silent."""
        return not self.enabled or (self._answers.last_s(model) > float("-inf") and not self.is_silent(model))

    def check(self, models: Collection[str]) -> None:
        """To be called after each probe with the models that Triton says are ready: asks those that are due."""
        if not self.enabled:
            return
        for model in self._listed.difference(models):
            self._answers.forget(model)
            if (gone := self._asked.get(model)) is not None:
                gone.last_s, gone.unanswered_since_s = float("-inf"), None
        self._listed = frozenset(models)
        now_s = time.monotonic()
        for model in models:
            asked = self._asked.setdefault(model, _Asked())
            if self._answers.last_s(model) >= (asked.unanswered_since_s or float("inf")):
                asked.unanswered_since_s = None
            heard_or_asked_s = max(self._answers.last_s(model), asked.last_s)
            if asked.task is None and now_s - heard_or_asked_s >= self._interval_s:
                asked.last_s = now_s
                asked.unanswered_since_s = asked.unanswered_since_s or now_s
                asked.task = asyncio.create_task(self._run(model, asked))

    async def _run(self, model: str, asked: _Asked) -> None:
        try:
            await self._ask(model)
            self.on_answer()
        except NaiadError as error:
            if error.reason is Reason.OVERLOADED:
                # A full queue is no sign of death: taking a busy replica away would only move its load.
                asked.unanswered_since_s = None
            elif error.reason is Reason.ENGINE_UNAVAILABLE:
                asked.last_s = float("-inf")  # it was not reached: a Triton that has just come back is asked at once
            else:
                fields = {"model": model, "reason": error.reason.value, "error": error.message}
                _log.warning("a model did not answer its canary", extra={"fields": fields})
        finally:
            asked.task = None

    async def close(self) -> None:
        """Waits for no answer any more. What Triton has been asked stays with it: no call to it is ever cancelled."""
        await cancel_and_wait(*(asked.task for asked in self._asked.values() if asked.task is not None))
