"""Models as text: their tokenizers and chat templates, loaded once, and tokenization off the event loop."""

import asyncio
import contextlib
import ctypes
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from prometheus_client import Counter

from services.common.bounds import MAX_TEXT_BYTES, text_is_larger
from services.common.call import may_use_model, note_in_log
from services.common.chat_template import ChatTemplateRenderer, Message
from services.common.cpu_core import run_anywhere
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.metrics import ServiceMetrics
from services.common.model_scan.limits import MAX_CHAT_TEMPLATE_BYTES, MAX_TOKENIZER_BYTES
from services.common.model_scan.reading import read_hashed
from services.common.registry import RESCAN_INTERVAL_S, ModelEntry, ModelRegistry, Task
from services.common.settings import CommonSettings
from services.common.tokenizer import TextTokenizer

# Shorter texts are tokenized faster than a thread is reached.
INLINE_BYTES = 1024
TRIM_BYTES = 256 * 1024
TRIM_DELAY_S = 1.0  # by then the answer is written and its memory is free
_MAX_THREADS = 4
_log = logging.getLogger(__name__)
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class TextModel:
    """One loaded model: manifest, tokenizer, and template text (None when it has none)."""

    entry: ModelEntry
    tokenizer: TextTokenizer
    chat_template: str | None

    def special_tokens(self) -> dict[str, str]:
        """Special tokens by the names that templates use."""
        first_eos = self.entry.eos_ids[0] if self.entry.eos_ids else None
        ids = {"bos_token": self.entry.bos_id, "eos_token": first_eos, "pad_token": self.entry.pad_id}
        return {name: self.tokenizer.token_text(token) for name, token in ids.items() if token is not None}


@dataclass
class _Loaded:
    """A model, the times of the files that it was loaded from, and when and for which entry they were looked at."""

    model: TextModel
    stamp: tuple[int, ...]
    entry: ModelEntry | None = None
    checked_at_s: float = float("-inf")

    def is_of(self, entry: ModelEntry, stamp: tuple[int, ...]) -> bool:
        """Whether loading the entry now would give the same."""
        return self.stamp == stamp and self.model.entry == entry


class TextModels:
    """Loads models of the registry on demand and keeps them until their files change, which it sees within seconds."""

    def __init__(self, registry: ModelRegistry, settings: CommonSettings, metrics: ServiceMetrics) -> None:
        self.registry = registry
        self._metrics = metrics
        self._token_counters: dict[str, Counter] = {}  # of models that exist
        self._retry_after_ms = settings.retry_after_ms
        self._limit_bytes = settings.tokenizer_inflight_bytes
        self._inflight_bytes = 0
        self._released = asyncio.Event()
        self._renderer = ChatTemplateRenderer(settings.chat_template_timeout_ms)
        self._loaded: dict[str, _Loaded] = {}
        self._broken: dict[str, tuple[tuple[int, ...], ModelEntry]] = {}
        self._load_lock = asyncio.Lock()
        self._wait_listener: Callable[[float], None] | None = None
        self._threads = ThreadPoolExecutor(min(_MAX_THREADS, os.cpu_count() or 1), "tokenizer", run_anywhere)

    async def load_all(self, *tasks: Task) -> None:
        """Loads the models of these tasks (none given: of all) ahead of calls; one that cannot be loaded is logged."""
        for entry in self.registry.with_task(*(tasks or Task)):
            try:
                model = await self._load(entry)
            except NaiadError:
                continue  # logged
            if model.chat_template is not None:
                await self._renderer.start()

    async def get(self, name: str, *tasks: Task) -> TextModel:
        """The model called `name`. Raises MODEL_NOT_FOUND, WRONG_TASK, or INTERNAL when its files are broken.

        And PERMISSION_DENIED for any name, of a model or not, that the calling tenant may not use.
        """
        if not may_use_model(name):
            raise NaiadError(Reason.PERMISSION_DENIED, "model: this tenant may not use it")
        entry = self.registry.get(name, *tasks)
        note_in_log(model=entry.name)  # only now: a name that is no model's may be anything, a prompt too
        return await self._load(entry)

    def loaded(self) -> list[TextModel]:
        """Loaded models that are still in the repository, in alphabetical order."""
        return [self._loaded[name].model for name in self.registry.entries() if name in self._loaded]

    async def _load(self, entry: ModelEntry) -> TextModel:
        loaded = self._loaded.get(entry.name)
        now_s = time.monotonic()
        if loaded is not None and loaded.entry is entry and now_s - loaded.checked_at_s < RESCAN_INTERVAL_S:
            return loaded.model
        stamp = _stamp(entry)
        if loaded is None or not loaded.is_of(entry, stamp):
            async with self._load_lock:
                loaded = self._loaded.get(entry.name)
                if loaded is None or not loaded.is_of(entry, stamp):
                    loaded = _Loaded(await self._load_files(entry, stamp), stamp)
                    self._loaded[entry.name] = loaded
        loaded.entry, loaded.checked_at_s = entry, now_s
        return loaded.model

    async def _load_files(self, entry: ModelEntry, stamp: tuple[int, ...]) -> TextModel:
        if self._broken.get(entry.name) == (stamp, entry):  # reading the same files again would end the same
            raise NaiadError(Reason.INTERNAL, f"files of model {entry.name} cannot be used")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _load_model, entry)
        except NaiadError as error:
            self._broken[entry.name] = stamp, entry
            _log.error("model cannot be used", extra={"fields": {"model": entry.name, "error": error.message}})
            raise

    async def render_chat(
        self, model: TextModel, messages: Sequence[Message], add_generation_prompt: bool, field: str
    ) -> str:
        """The conversation as the model's text. Raises FAILED_PRECONDITION when it has no template."""
        if model.chat_template is None:
            raise NaiadError(Reason.WRONG_TASK, f"model: {model.entry.name!r} has no chat template")
        return await self._renderer.render(
            model.chat_template, messages, add_generation_prompt, model.special_tokens(), field
        )

    async def run(self, text_bytes: int, work: Callable[[], ResultT]) -> ResultT:
        """Runs tokenizer work, in a thread unless the text is short. Raises OVERLOADED when there is too much of it."""
        if text_bytes <= INLINE_BYTES:
            return work()
        if self._is_full(text_bytes):
            raise NaiadError(Reason.OVERLOADED, "too much text is being tokenized", retry_after_ms=self._retry_after_ms)
        self._inflight_bytes += text_bytes
        asked_s = time.monotonic()
        started_s = asked_s

        def timed_work() -> ResultT:
            nonlocal started_s
            started_s = time.monotonic()
            return work()

        future = asyncio.get_running_loop().run_in_executor(self._threads, timed_work)
        future.add_done_callback(lambda _: self._release(text_bytes))
        result = await asyncio.shield(future)  # the work goes on without its caller, and counts until it ends
        if self._wait_listener is not None:
            self._wait_listener(started_s - asked_s)
        return result

    def on_wait(self, listener: Callable[[float], None]) -> None:
        """Calls `listener`, in the task that asked, with the seconds that work waited for a thread."""
        self._wait_listener = listener

    async def run_when_free(self, text_bytes: int, work: Callable[[], ResultT]) -> ResultT:
        """The same for bulk work, which waits for room instead of failing."""
        while self._is_full(text_bytes):
            await self._released.wait()
        return await self.run(text_bytes, work)

    def _is_full(self, text_bytes: int) -> bool:
        return bool(self._inflight_bytes) and self._inflight_bytes + text_bytes > self._limit_bytes

    def _release(self, text_bytes: int) -> None:
        self._inflight_bytes -= text_bytes
        self._released.set()
        self._released = asyncio.Event()
        if text_bytes >= TRIM_BYTES:
            # Tokenizing takes some 200 times the size of the text, which the C library would keep for this process.
            loop = asyncio.get_running_loop()
            loop.call_later(TRIM_DELAY_S, loop.run_in_executor, None, _trim_memory)

    def count_tokens(self, model: TextModel, tokens: int) -> None:
        """Notes tokenized tokens in the metrics."""
        name = model.entry.name
        counter = self._token_counters.get(name)
        if counter is None:
            counter = self._token_counters[name] = self._metrics.tokenized_tokens.labels(name)
        counter.inc(tokens)

    async def close(self) -> None:
        """Ends threads and the template process."""
        await self._renderer.close()
        self._threads.shutdown(wait=True)


def _trim_memory() -> None:
    with contextlib.suppress(AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _stamp(entry: ModelEntry) -> tuple[int, ...]:
    paths = [entry.tokenizer_path] + ([entry.chat_template_path] if entry.chat_template_path else [])
    try:
        return tuple(path.stat().st_mtime_ns for path in paths)
    except OSError:
        return ()


def _load_model(entry: ModelEntry) -> TextModel:
    try:
        tokenizer = read_hashed(entry.tokenizer_path, entry.tokenizer_sha256, MAX_TOKENIZER_BYTES)
        template = None
        if entry.chat_template_path is not None:
            content = read_hashed(entry.chat_template_path, entry.chat_template_sha256, MAX_CHAT_TEMPLATE_BYTES)
            template = content.decode("utf-8")
        return TextModel(entry, TextTokenizer.from_bytes(tokenizer, entry.tokenizer_path.name), template)
    except (OSError, ValueError) as error:
        raise NaiadError(Reason.INTERNAL, f"files of model {entry.name} cannot be used: {error}") from error


ROLES = ("system", "user", "assistant")


def text_is_too_long(text: str) -> bool:
    """Whether the text has more than MAX_TEXT_BYTES bytes of UTF-8."""
    return text_is_larger(text, MAX_TEXT_BYTES)


def check_messages(messages: Sequence[Message], field: str) -> None:
    """Raises INVALID_FIELD unless there are messages, with known roles and at most 1 MiB of text together."""
    if not messages:
        raise invalid_field(field, "no messages; at least 1 is needed")
    for index, message in enumerate(messages):
        if message.role not in ROLES:
            raise invalid_field(f"{field}[{index}].role", f"is none of {', '.join(ROLES)}")
    if sum(len(message.content.encode()) for message in messages) > MAX_TEXT_BYTES:
        raise invalid_field(field, f"the contents have more than {MAX_TEXT_BYTES} bytes together")
