"""CTranslate2's generator with 8-bit weights, a static batch at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems.adapters.clock import RunClock, one_batch
from benchmarks.systems.protocol import About, Answer, Request, Unsupported


class Ct2Generator:
    """The adapter. CTranslate2 takes and gives the strings of tokens."""

    def __init__(self) -> None:
        self._generator: Any = None
        self._vocabulary: list[str] = []

    def load(self, options: dict[str, Any]) -> About:
        """Loads the converted model."""
        import ctranslate2

        folder = Path(options["folder"])
        self._vocabulary = json.loads((folder / "vocabulary.json").read_text())
        self._generator = ctranslate2.Generator(
            str(folder), device="cpu", compute_type="int8", inter_threads=1, intra_threads=int(options["threads"])
        )
        return About(
            {"ctranslate2": version("ctranslate2")},
            weights="int8, 8-bit activations",
            weight_bytes=(folder / "model.bin").stat().st_size,
            kv_cache="fp32",
            settings="static batch",
        )

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """One batch; a callback notes every token."""
        if reuse_prefix:
            raise Unsupported("no prefix cache between requests")
        prompts, new_tokens = one_batch(requests, "CTranslate2")
        answers = [Answer() for _ in requests]
        clock = RunClock()

        def note(step: Any) -> bool:
            answers[step.batch_id].add([int(step.token_id)], clock.now_s())
            return False

        self._generator.generate_batch(
            [[self._vocabulary[token] for token in prompt] for prompt in prompts],
            max_length=new_tokens,
            min_length=new_tokens,
            sampling_topk=1,
            include_prompt_in_result=False,
            callback=note,
        )
        return answers

    def close(self) -> None:
        """Nothing runs between calls."""


def create() -> Ct2Generator:
    """The adapter."""
    return Ct2Generator()
