"""Log-probabilities of a given text; free of gRPC."""

import asyncio
import math
import time

import numpy as np

from services.common.call import Call, current_call, may_share_prefixes
from services.common.deadline import deadline_exceeded, timeout_parameter
from services.common.engine_run import EngineRun
from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply, ParameterValue
from services.common.registry import Task
from services.common.text_models import TextModel
from services.generation.completion import position_logprobs
from services.generation.events import PositionLogprobs, ScoreResult, Timings, Usage
from services.generation.logic import GenerationLogic, PreparedPrompt
from services.generation.parameters import Prompt


async def score(logic: GenerationLogic, model: TextModel, prompt: Prompt, top_logprobs: int, call: Call) -> ScoreResult:
    """Scores each token given those before it. Raises NaiadError."""
    with logic.admission.request():
        if logic.safety is not None:
            prompt = await logic.safety.of_model(model.entry.name).checked_prompt(prompt, model, call)
        prepared = await logic.prepare(model, prompt, model.entry.context_length_tokens)
        call.log_fields.update(prompt_tokens=len(prepared.ids))
        with logic.admission.cost(len(prepared.ids)):
            replies = await _run(logic, model, prepared, top_logprobs, call.deadline_s) if len(prepared.ids) > 1 else []
    # Off the event loop: tens of thousands of token texts take long.
    return await asyncio.to_thread(_result, model, prepared, top_logprobs, replies)


async def _run(
    logic: GenerationLogic, model: TextModel, prepared: PreparedPrompt, top_logprobs: int, deadline_s: float | None
) -> list[InferReply]:
    parameters: dict[str, ParameterValue] = {
        "request_output_len": 0,
        "return_context_log_probs": True,
        "top_log_probs": top_logprobs,
        "use_prefix_cache": may_share_prefixes(),
        **timeout_parameter(deadline_s),
    }
    begun_s = time.monotonic()
    request = logic.engine.submit(model.entry.name, {"input_ids": prepared.ids}, parameters)
    replies: list[InferReply] = []
    try:
        async with asyncio.timeout_at(deadline_s):
            while not replies or not replies[-1].final:
                replies += await request.next_replies()
    except TimeoutError:
        raise deadline_exceeded() from None
    finally:
        request.close()
        attributes = {"gen_ai.usage.input_tokens": len(prepared.ids)}
        current_call().engine_runs.add(
            EngineRun("score", model.entry.name, begun_s, time.monotonic(), _phases_us(replies), attributes)
        )
    return replies


def _result(model: TextModel, prepared: PreparedPrompt, top_logprobs: int, replies: list[InferReply]) -> ScoreResult:
    ids: list[int] = prepared.ids.tolist()
    pieces = [reply.outputs for reply in replies if "context_log_probs" in reply.outputs]
    values = np.concatenate([piece["context_log_probs"] for piece in pieces]) if pieces else np.empty(0, np.float32)
    if len(values) != len(ids) - 1:
        raise NaiadError(Reason.INTERNAL, f"the engine scored {len(values)} of {len(ids) - 1} tokens")
    logprobs: list[PositionLogprobs] = []
    rows = iter(zip(ids[1:], values.tolist(), strict=True))
    for piece in pieces:
        for row in range(len(piece["context_log_probs"])):
            top_ids = piece["context_top_ids"][row].tolist() if top_logprobs else ()
            top_values = piece["context_top_values"][row].tolist() if top_logprobs else ()
            logprobs.append(position_logprobs(model.tokenizer, next(rows), top_ids, top_values))
    total = float(values.astype(np.float64).sum())
    cached = replies[-1].int_parameter("cached_prompt_tokens") if replies else 0
    timings = Timings(**{f"{phase}_us": duration_us for phase, duration_us in _phases_us(replies).items()})
    return ScoreResult(ids, logprobs, total, _perplexity(total, len(values)), Usage(len(ids), cached, 0), timings)


def _phases_us(replies: list[InferReply]) -> dict[str, int]:
    """What the engine measured; empty when it did not come to the end."""
    return {phase: replies[-1].int_parameter(f"{phase}_us") for phase in ("queue", "prefill")} if replies else {}


def _perplexity(total_logprob: float, entries: int) -> float:
    if entries == 0:
        return 0.0
    try:
        return math.exp(-total_logprob / entries)
    except OverflowError:
        return math.inf


async def score_model(logic: GenerationLogic, name: str) -> TextModel:
    """The model to score with. Raises MODEL_NOT_FOUND or WRONG_TASK."""
    return await logic.models.get(name, Task.GENERATE)
