"""Renders conversations with a model's chat template, as transformers' `apply_chat_template` does.

A template comes with a checkpoint and is a program. It runs in Jinja's immutable sandbox, and in a process of its own
with limited memory that is killed when it takes too long: a loop, or one huge string, inside the service's process
could not be stopped. The process starts with the first template and is started anew after a kill.
"""

import asyncio
import contextlib
import json
import logging
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.cpu_core import starting_anywhere
from services.common.errors import NaiadError, Reason, invalid_field

MAX_RENDERED_CHARS = 4 * 1024 * 1024
_WORKER = Path(__file__).with_name("chat_template_worker.py")
_START_TIMEOUT_S = 20.0
_MAX_LINE_BYTES = 12 * MAX_RENDERED_CHARS + 1024  # JSON writes a character as up to twelve bytes (a surrogate pair)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """One message of a conversation."""

    role: str
    content: str


class ChatTemplateRenderer:
    """Renders one conversation at a time, each within `timeout_ms`."""

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_s = timeout_ms / 1000
        self._process: Process | None = None
        self._lock = asyncio.Lock()

    async def render(
        self,
        template: str,
        messages: Sequence[Message],
        add_generation_prompt: bool,
        special_tokens: Mapping[str, str],
        field: str,
    ) -> str:
        """The rendered conversation. Raises INVALID_FIELD for `field` if the template refuses it or needs too much."""
        request = {
            "template": template,
            "max_chars": MAX_RENDERED_CHARS,
            "variables": {
                **special_tokens,
                "messages": [{"role": message.role, "content": message.content} for message in messages],
                "tools": None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            },
        }
        # Shielded: a caller that leaves in between would take the answer of the next one with it.
        answer = await asyncio.shield(asyncio.ensure_future(self._exchange(request)))
        if "text" in answer:
            return str(answer["text"])
        if "refused" in answer:
            raise invalid_field(field, f"the chat template refuses the conversation: {answer['refused']}")
        if "too_large" in answer:
            raise invalid_field(field, "the chat template needs too much time or memory for the conversation")
        raise NaiadError(Reason.INTERNAL, f"the chat template failed: {answer.get('error')}")

    async def start(self) -> None:
        """Starts the process ahead of the first conversation."""
        async with self._lock:
            await self._running()

    async def close(self) -> None:
        """Ends the process."""
        async with self._lock:
            await self._kill()

    async def _exchange(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._lock:
            process = await self._running()
            try:
                async with asyncio.timeout(self._timeout_s):
                    line = await _ask(process, json.dumps(request).encode() + b"\n")
            except (TimeoutError, ConnectionError, ValueError):
                line = b""
            if not line:
                _log.error("chat template process was killed: too much time or memory")
                await self._kill()
                return {"too_large": True}
            answer: dict[str, Any] = json.loads(line)
            return answer

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            with starting_anywhere():
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-I", str(_WORKER), stdin=PIPE, stdout=PIPE, limit=_MAX_LINE_BYTES
                )
            async with asyncio.timeout(_START_TIMEOUT_S):
                if not await _ask(self._process, b""):
                    raise NaiadError(Reason.INTERNAL, "the chat template process does not start")
        return self._process

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def _ask(process: Process, line: bytes) -> bytes:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("the process was started with pipes")
    process.stdin.write(line)
    await process.stdin.drain()
    return await process.stdout.readline()
