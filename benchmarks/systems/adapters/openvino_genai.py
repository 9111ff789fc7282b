"""OpenVINO GenAI's continuous batching pipeline, stepped by one thread, on the GGUF file itself."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.systems.adapters.clock import RunClock
from benchmarks.systems.protocol import About, Answer, Request

KV_CACHE_GIB = 2
MOST_BATCHED_TOKENS = 2048
MOST_SEQUENCES = 64


class OpenVinoPipeline:
    """The adapter. Two pipelines: a cache of prefixes is a property of the whole pipeline."""

    def __init__(self) -> None:
        self._plain: Any = None
        self._with_prefixes: Any = None
        self._next_id = 0

    def load(self, options: dict[str, Any]) -> About:
        """Reads and compiles the model."""
        self._plain = self._pipeline(options, prefix_cache=False)
        self._with_prefixes = self._pipeline(options, prefix_cache=True)
        return About(
            {name: version(name) for name in ("openvino", "openvino-genai")},
            weights="Q4_1 as shipped, 8-bit dynamic activations",
            weight_bytes=Path(options["gguf"]).stat().st_size,
            kv_cache="8-bit (its default)",
            settings=f"up to {MOST_BATCHED_TOKENS} tokens a step, dynamic split-fuse",
        )

    @staticmethod
    def _pipeline(options: dict[str, Any], *, prefix_cache: bool) -> Any:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = KV_CACHE_GIB
        scheduler.enable_prefix_caching = prefix_cache
        scheduler.max_num_seqs = MOST_SEQUENCES
        scheduler.max_num_batched_tokens = MOST_BATCHED_TOKENS
        scheduler.dynamic_split_fuse = True
        properties = {"INFERENCE_NUM_THREADS": int(options["threads"])}
        return openvino_genai.ContinuousBatchingPipeline(options["gguf"], scheduler, "CPU", properties)

    def run(self, requests: Sequence[Request], *, reuse_prefix: bool) -> list[Answer]:
        """Adds each request at its time and steps while there is work."""
        pipeline = self._with_prefixes if reuse_prefix else self._plain
        waiting = sorted(range(len(requests)), key=lambda index: requests[index].arrival_s, reverse=True)
        answers = [Answer() for _ in requests]
        handles: dict[int, Any] = {}
        clock = RunClock()
        while waiting or handles:
            while waiting and requests[waiting[-1]].arrival_s <= clock.now_s():
                index = waiting.pop()
                handles[index] = self._add(pipeline, requests[index])
            if not handles:
                clock.wait_until(requests[waiting[-1]].arrival_s)
                continue
            pipeline.step()
            self._collect(handles, requests, answers, clock.now_s())
        return answers

    def _add(self, pipeline: Any, request: Request) -> Any:
        import numpy as np
        import openvino
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = request.new_tokens
        config.do_sample, config.ignore_eos = False, True
        self._next_id += 1
        return pipeline.add_request(self._next_id, openvino.Tensor(np.array([request.prompt], np.int64)), config)

    @staticmethod
    def _collect(handles: dict[int, Any], requests: Sequence[Request], answers: list[Answer], when_s: float) -> None:
        for index, handle in list(handles.items()):
            while handle.can_read():
                for output in handle.read().values():
                    answers[index].add([int(token) for token in output.generated_ids], when_s)
            if len(answers[index].tokens) >= requests[index].new_tokens:
                del handles[index]

    def close(self) -> None:
        """Nothing runs between steps."""


def create() -> OpenVinoPipeline:
    """The adapter."""
    return OpenVinoPipeline()
