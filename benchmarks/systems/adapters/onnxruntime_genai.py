"""onnxruntime-genai: its own generator loop over a static batch, on the 4-bit model that its builder makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems.adapters.clock import RunClock, one_batch
from benchmarks.systems.protocol import About, Answer, Request, Unsupported


class GenAiGenerator:
    """The adapter."""

    def __init__(self) -> None:
        self._model: Any = None

    def load(self, options: dict[str, Any]) -> About:
        """Loads the converted model."""
        import onnxruntime_genai

        config = onnxruntime_genai.Config(options["folder"])
        session = {"intra_op_num_threads": int(options["threads"])}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": session}}}))
        self._model = onnxruntime_genai.Model(config)
        return About(
            {name: version(name) for name in ("onnxruntime-genai", "onnxruntime")},
            weights="int4 in blocks of 32, 8-bit activations",
            weight_bytes=(Path(options["folder"]) / "model.onnx.data").stat().st_size,
            kv_cache="fp32",
            settings="static batch",
        )

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """One batch, one token a step for each of its rows."""
        import numpy as np
        import onnxruntime_genai

        if reuse_prefix:
            raise Unsupported("no prefix cache between requests")
        prompts, new_tokens = one_batch(requests, "onnxruntime-genai")
        length = len(prompts[0]) + new_tokens
        answers = [Answer() for _ in requests]
        clock = RunClock()
        parameters = onnxruntime_genai.GeneratorParams(self._model)
        parameters.set_search_options(max_length=length, min_length=length, batch_size=len(prompts), do_sample=False)
        generator = onnxruntime_genai.Generator(self._model, parameters)
        generator.append_tokens(np.array(prompts, np.int32))
        while not generator.is_done():
            generator.generate_next_token()
            tokens, when_s = generator.get_next_tokens(), clock.now_s()
            for answer, token in zip(answers, tokens, strict=True):
                answer.add([int(token)], when_s)
        return answers

    def close(self) -> None:
        """Nothing runs between calls."""


def create() -> GenAiGenerator:
    """The adapter."""
    return GenAiGenerator()
