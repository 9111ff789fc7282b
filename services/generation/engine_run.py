"""A generation as one run of the engine, for the log line and the spans."""

import time

from services.common.engine_run import AttributeValue, EngineRun
from services.generation.events import Summary
from services.generation.parameters import Generation


def generation_run(
    generation: Generation, max_tokens: int, begun_s: float, summary: Summary | None, reasons: list[str]
) -> EngineRun:
    """The run that ends now; `summary` is None, and `reasons` empty, when it did not come to its end."""
    sampling = generation.sampling
    attributes: dict[str, AttributeValue] = {
        "gen_ai.request.max_tokens": max_tokens,
        "gen_ai.request.choice.count": sampling.best_of,
        "gen_ai.request.temperature": sampling.temperature,
        "gen_ai.request.top_p": sampling.top_p,
        "gen_ai.request.top_k": sampling.top_k,
    }
    phases_us: dict[str, int] = {}
    if summary is not None:
        usage, timings = summary.usage, summary.timings
        attributes |= {
            "gen_ai.usage.input_tokens": usage.prompt_tokens,
            "gen_ai.usage.output_tokens": usage.completion_tokens,
            "gen_ai.usage.cache_read.input_tokens": usage.cached_prompt_tokens,
            "gen_ai.response.time_to_first_chunk": timings.time_to_first_token_us / 1e6,
            "gen_ai.response.finish_reasons": reasons,
        }
        phases_us = {"queue": timings.queue_us, "prefill": timings.prefill_us, "decode": timings.decode_us}
    operation = "text_completion" if generation.prompt.messages is None else "chat"
    return EngineRun(operation, generation.model, begun_s, time.monotonic(), phases_us, attributes)
