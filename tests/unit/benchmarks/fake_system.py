"""A system that tests start in a process of its own; what it does is in the prompts that it is given."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.systems.protocol import About, Answer, Request, Unsupported


class FakeSystem:
    """Counts up from the last token of the prompt; a prompt that begins with a word of SCRIPT does that instead."""

    CRASH, HANG, RAISE = 101, 102, 103

    def load(self, options: dict[str, Any]) -> About:
        """Says what it was given."""
        print("a library that prints")
        return About({"fake": "1"}, "none", 0, "none", str(options))

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """Does what the first prompt says."""
        match requests[0].prompt[0]:
            case self.CRASH:
                print("out of memory", flush=True)
                os._exit(3)
            case self.HANG:
                time.sleep(600)
            case self.RAISE:
                raise RuntimeError("no such kernel")
        if reuse_prefix:
            raise Unsupported("no prefix cache")
        return [
            Answer(
                [request.prompt[-1] + 1 + i for i in range(request.new_tokens)],
                [0.5 + i for i in range(request.new_tokens)],
            )
            for request in requests
        ]

    def close(self) -> None:
        """Nothing to end."""


def create() -> FakeSystem:
    """The adapter."""
    return FakeSystem()
