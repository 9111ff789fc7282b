"""transformers as a user would run it in one process: float32, padded batches, its own key-value cache."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from benchmarks.systems.adapters.clock import RunClock, one_batch
from benchmarks.systems.protocol import About, Answer, Request, Unsupported


class TransformersPeer:
    """The adapter."""

    def __init__(self) -> None:
        self._decoder: Any = None

    def load(self, options: dict[str, Any]) -> About:
        """Loads the checkpoint."""
        import torch

        from benchmarks.transformers_models import TransformersDecoder

        torch.set_num_threads(int(options["threads"]))
        self._decoder = TransformersDecoder()
        return About(
            {name: version(name) for name in ("transformers", "torch")},
            weights="fp32",
            weight_bytes=self._decoder.weight_bytes,
            kv_cache="fp32",
            settings="static batch",
        )

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """One batch."""
        if reuse_prefix:
            raise Unsupported("no prefix cache between requests")
        prompts, new_tokens = one_batch(requests, "transformers")
        times_s: list[float] = []
        clock = RunClock()
        rows = self._decoder.generate(prompts, new_tokens, lambda: times_s.append(clock.now_s()))
        return [Answer(tokens, list(times_s)) for tokens in rows]

    def close(self) -> None:
        """Nothing runs between calls."""


def create() -> TransformersPeer:
    """The adapter."""
    return TransformersPeer()
