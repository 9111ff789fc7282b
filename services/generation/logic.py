"""What the generation service does, free of gRPC: admit, read the prompt, run completions, add up."""

import asyncio
import contextlib
import secrets
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np
from prometheus_client import Histogram

from services.common.admission import FIRST_TOKENS_PER_BYTE, Admission
from services.common.call import Call
from services.common.deadline import deadline_exceeded, timeout_parameter
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.infer_reply import Array, InferReply
from services.common.metrics import FrontendMetrics
from services.common.registry import ModelEntry, Task
from services.common.text_models import TextModel, TextModels
from services.common.tokenizer import CONTEXT_TOKENS
from services.generation.completion import CompletionReader
from services.generation.engine import Engine, EngineRequest
from services.generation.engine_errors import with_field
from services.generation.engine_run import generation_run
from services.generation.events import (
    Completion,
    Delta,
    Event,
    Finished,
    FinishReason,
    GenerationResult,
    Started,
    Summary,
    Timings,
    Usage,
)
from services.generation.pace import Pace
from services.generation.parameters import (
    DEFAULT_MAX_TOKENS,
    Generation,
    Prompt,
    engine_inputs,
    engine_parameters,
)
from services.generation.safety.stage import CompletionGuards, SafetyStage

# Each costs less when it follows another: between tokens caches have gone cold.
_LATENCIES_AT_ONCE = 16

Validate = Callable[[ModelEntry], Generation]
# Takes one event; the next one comes when it is done.
Emit = Callable[[Event], Awaitable[None]]


@dataclass(frozen=True)
class PreparedPrompt:
    """A prompt as token ids, and its text when it came as text."""

    ids: Array
    text: str | None


class GenerationLogic:
    """Generates with any decoder of the repository."""

    def __init__(
        self,
        models: TextModels,
        engine: Engine,
        admission: Admission,
        metrics: FrontendMetrics,
        safety: SafetyStage | None = None,
    ) -> None:
        """Without `safety` neither prompts nor answers are checked."""
        self.safety = safety
        self.models = models
        self.engine = engine
        self.admission = admission
        self.metrics = metrics
        self.paces: defaultdict[str, Pace] = defaultdict(Pace)  # of models that exist

    async def generate(self, model_name: str, validate: Validate, call: Call) -> GenerationResult:
        """All completions at once. Raises NaiadError."""
        completions: dict[int, Completion] = {}
        wanted = 0
        summary: Summary | None = None

        def validated(entry: ModelEntry) -> Generation:
            nonlocal wanted
            generation = validate(entry)
            wanted = generation.sampling.n
            return generation

        async def collect(event: Event) -> None:
            nonlocal summary
            if isinstance(event, Delta):
                completion = completions.setdefault(event.index, _empty(event.index))
                completion.text += event.text
                completion.token_ids += event.token_ids
                completion.logprobs += event.logprobs
            elif isinstance(event, Finished):
                completions.setdefault(event.index, _empty(event.index)).finished = event
            elif isinstance(event, Summary):
                summary = event

        run = _Run(self, model_name, validated, call, collect)
        run.needs_all = True
        await run.execute()
        if summary is None:
            raise AssertionError("a run that does not fail ends with its summary")
        mean_logprobs = run.mean_logprobs()
        best = sorted(completions.values(), key=lambda completion: (-mean_logprobs[completion.index], completion.index))
        chosen = sorted(best[:wanted], key=lambda completion: completion.index)
        for index, completion in enumerate(chosen):
            completion.index = index
        return GenerationResult(chosen, summary)

    async def stream(self, model_name: str, validate: Validate, call: Call, emit: Emit) -> None:
        """Emits events as they come. Cancelling it ends the work in the engine within a step. Raises NaiadError."""
        await _Run(self, model_name, validate, call, emit).execute()

    async def prepare(self, model: TextModel, prompt: Prompt, max_context_tokens: int) -> PreparedPrompt:
        """Token ids of the prompt. Raises INVALID_FIELD when it is empty or longer than the context."""
        text = prompt.text
        if prompt.messages is not None:
            text = await self.models.render_chat(model, prompt.messages, prompt.add_generation_prompt, prompt.field)
        if text is not None:
            special = prompt.messages is None  # a template writes the special tokens itself
            shown = text
            ids = await self.models.run(len(text), lambda: model.tokenizer.encode_ids(shown, special))
            self.models.count_tokens(model, len(ids))
        else:
            ids = list(prompt.token_ids or ())
        if not ids:
            raise invalid_field(prompt.field, "gives no token")
        if len(ids) > max_context_tokens:
            raise invalid_field(prompt.field, f"{len(ids)} tokens; the model's context has {max_context_tokens}")
        return PreparedPrompt(np.array(ids, np.int32), text)


def _empty(index: int) -> Completion:
    return Completion(index, Finished(index, FinishReason.CANCELLED))


class _Run:
    """One request from arrival to summary."""

    def __init__(self, logic: GenerationLogic, model_name: str, validate: Validate, call: Call, emit: Emit) -> None:
        self._logic = logic
        self._model_name = model_name
        self._validate = validate
        self._call = call
        self._emit = emit
        self._metrics = logic.metrics
        self.needs_all = False  # whether a part of the answer is of no use
        self._submitted_s = 0.0
        self._prompt_tokens = 0
        self._tells_wait = False
        self._inter_token_latency: Histogram  # of this model; known once the model is
        self._readers: list[CompletionReader] = []
        self._last_token_s: dict[int, float] = {}
        self._latencies_s: list[float] = []  # between tokens, not yet in the metric
        self._time_to_first_token_s = 0.0
        self._guards: CompletionGuards | None = None  # check the answers, if a safety policy says so

    async def execute(self) -> None:
        """Emits Started, deltas, finisheds, summary."""
        with self._logic.admission.request():
            model = await self._logic.models.get(self._model_name, Task.GENERATE)
            generation = self._validate(model.entry)
            self._logic.admission.reserve(_estimated_cost(generation, model.entry))
            if self._logic.safety is not None:
                safety = self._logic.safety.of_model(model.entry.name)
                generation = await safety.checked(generation, model, self._call)
                self._guards = safety.guards(generation.sampling.best_of, self._call)
            prompt = await self._logic.prepare(model, generation.prompt, model.entry.context_length_tokens)
            max_tokens = _max_tokens(generation, model.entry, len(prompt.ids))
            cost = len(prompt.ids) + max_tokens * generation.sampling.best_of
            self._call.log_fields.update(prompt_tokens=len(prompt.ids), max_tokens=max_tokens)
            pace = self._logic.paces[self._model_name]
            pace.check(len(prompt.ids), max_tokens if self.needs_all else None, self._call.deadline_s)
            with self._logic.admission.cost(cost):
                await self._run(model, generation, prompt, max_tokens)

    async def _run(self, model: TextModel, generation: Generation, prompt: PreparedPrompt, max_tokens: int) -> None:
        self._readers = self._make_readers(model, generation, prompt)
        self._prompt_tokens = len(prompt.ids)
        # A guide is compiled first, and who lets others go first waits by choice.
        self._tells_wait = generation.guide is None and generation.scheduling.priority >= 0
        self._inter_token_latency = self._metrics.inter_token_latency.labels(self._model_name)
        begun_s = time.monotonic()
        request = self._submit(generation, prompt, max_tokens) if max_tokens > 0 else None
        summary: Summary | None = None
        try:
            await self._emit(Started(len(prompt.ids)))
            if generation.wanted.echo:
                echo = prompt.text
                if echo is None:
                    echo = model.tokenizer.decode(prompt.ids.tolist(), skip_special_tokens=False)
                for reader in self._readers:
                    await self._emit(Delta(reader.index, echo))
            if request is None:
                for reader in self._readers:
                    reader.finished = Finished(reader.index, FinishReason.LENGTH)
                    await self._emit(reader.finished)
            else:
                await self._follow(request)
                self._observe_latencies()
                self._note_end(max_tokens)
            summary = self._summary(len(prompt.ids), generation.model)
            await self._emit(summary)
        except NaiadError as error:
            named = with_field(error, generation)
            raise named from (None if named is error else error)
        finally:
            self._observe_latencies()
            if request is not None:
                request.close()
                run = generation_run(generation, max_tokens, begun_s, summary, self._finish_reasons())
                self._call.engine_runs.add(run)

    def _make_readers(self, model: TextModel, generation: Generation, prompt: PreparedPrompt) -> list[CompletionReader]:
        context = prompt.ids[-CONTEXT_TOKENS:].tolist()
        return [CompletionReader(index, model, generation, context) for index in range(generation.sampling.best_of)]

    def _submit(self, generation: Generation, prompt: PreparedPrompt, max_tokens: int) -> EngineRequest:
        seed = secrets.randbits(64) if generation.sampling.seed is None else generation.sampling.seed
        inputs = engine_inputs(prompt.ids, generation)
        parameters = engine_parameters(generation, max_tokens, seed) | timeout_parameter(self._call.deadline_s)
        self._submitted_s = time.monotonic()
        return self._logic.engine.submit(generation.model, inputs, parameters)

    def _note_first_token(self) -> None:
        duration_s = time.monotonic() - self._submitted_s
        wait_s = self._logic.paces[self._model_name].note_first_token(self._prompt_tokens, duration_s)
        if wait_s is not None and self._tells_wait:
            self._logic.admission.observe_wait(wait_s)

    def _note_end(self, max_tokens: int) -> None:
        pace = self._logic.paces[self._model_name]
        pace.note_whole(max_tokens, time.monotonic() - self._submitted_s)
        last = self._readers[0].last_reply
        if last is not None:
            computed_tokens = self._prompt_tokens - last.int_parameter("cached_prompt_tokens")
            pace.note_prefill(computed_tokens, last.int_parameter("prefill_us") / 1e6)

    async def _follow(self, request: EngineRequest) -> None:
        deadline_s = self._call.deadline_s
        try:
            async with asyncio.timeout_at(deadline_s):
                # A task of its own: each token resumes it twice, and would pass through all that awaits it, from the
                # server's frames down, each time.
                ended = await asyncio.create_task(self._follow_texts(request))
        except TimeoutError:
            request.close()
            raise deadline_exceeded() from None
        # The texts are whole; only the engine's timings may be missing.
        with contextlib.suppress(NaiadError, TimeoutError):
            async with asyncio.timeout_at(deadline_s):
                while not ended:
                    replies = await request.next_replies()
                    ended = replies[-1].final
                    for reader, own_replies in self._routed(replies):
                        reader.read(own_replies)

    async def _follow_texts(self, request: EngineRequest) -> bool:
        """Until all completions have finished; whether the engine has ended the request, too."""
        ended = False
        while any(reader.finished is None for reader in self._readers):
            if ended:
                raise NaiadError(Reason.INTERNAL, "the engine ended the request before all of its completions")
            replies = await request.next_replies()
            ended = replies[-1].final
            for reader, own_replies in self._routed(replies):
                if reader.finished is None:
                    await self._advance(request, reader, own_replies)
                else:
                    reader.read(own_replies)  # for its last reply: nothing is shown any more
        return ended

    def _routed(self, replies: list[InferReply]) -> list[tuple[CompletionReader, list[InferReply]]]:
        """The replies of each completion, in the order of their first."""
        if len(replies) == 1 and 0 <= replies[0].sequence_index < len(self._readers):
            return [(self._readers[replies[0].sequence_index], replies)]
        groups: dict[int, list[InferReply]] = {}
        for reply in replies:
            groups.setdefault(reply.sequence_index, []).append(reply)
        if not all(0 <= index < len(self._readers) for index in groups):
            raise NaiadError(Reason.INTERNAL, f"the engine answered for completions {sorted(groups)}")
        return [(self._readers[index], group) for index, group in groups.items()]

    async def _advance(self, request: EngineRequest, reader: CompletionReader, replies: list[InferReply]) -> None:
        before = reader.completion_tokens
        delta = reader.read(replies)
        if self._guards is not None:
            await self._guards.apply(reader, delta)
        if reader.completion_tokens > before:
            self._observe_tokens(reader.index, reader.completion_tokens - before)
        if reader.finished is not None and reader.last_reply is None:
            others_go_on = any(other.finished is None for other in self._readers)
            request.stop(reader.index if others_go_on else None)
        if delta.text or delta.token_ids or delta.logprobs:
            await self._emit(delta)
        if reader.finished is not None:
            self._metrics.request_success.labels(self._model_name, reader.finished.reason.value).inc()
            await self._emit(reader.finished)

    def _observe_tokens(self, index: int, tokens: int) -> None:
        now_s = time.monotonic()
        last_token_s = self._last_token_s.get(index)
        if not self._last_token_s:
            self._note_first_token()
        if last_token_s is None:
            first_s = now_s - self._call.arrived_s
            self._time_to_first_token_s = max(self._time_to_first_token_s, first_s)
            self._metrics.time_to_first_token.labels(self._model_name).observe(first_s)
        else:
            self._latencies_s += [(now_s - last_token_s) / tokens] * tokens
            if len(self._latencies_s) >= _LATENCIES_AT_ONCE:
                self._observe_latencies()
        self._last_token_s[index] = now_s

    def _observe_latencies(self) -> None:
        for latency_s in self._latencies_s:
            self._inter_token_latency.observe(latency_s)
        self._latencies_s.clear()

    def mean_logprobs(self) -> dict[int, float]:
        """Mean log-probability of each completion; 0 for one without tokens."""
        return {reader.index: reader.total_logprob / max(1, reader.completion_tokens) for reader in self._readers}

    def _summary(self, prompt_tokens: int, model_name: str) -> Summary:
        ends = [reader.last_reply for reader in self._readers if reader.last_reply is not None]

        def slowest(name: str) -> int:
            return max((end.int_parameter(name) for end in ends), default=0)

        # The prompt was computed for the first completion; to the others all of it comes from the cache.
        first = self._readers[0].last_reply

        usage = Usage(
            prompt_tokens,
            0 if first is None else first.int_parameter("cached_prompt_tokens"),
            sum(reader.completion_tokens for reader in self._readers),
        )
        first_token_us = round(self._time_to_first_token_s * 1e6)
        timings = Timings(slowest("queue_us"), slowest("prefill_us"), slowest("decode_us"), first_token_us)
        self._metrics.request_latency.labels(model_name).observe(time.monotonic() - self._call.arrived_s)
        self._call.log_fields.update(
            completion_tokens=usage.completion_tokens,
            time_to_first_token_ms=round(first_token_us / 1000, 3),
            finish_reason=",".join(self._finish_reasons()),
        )
        return Summary(usage, timings)

    def _finish_reasons(self) -> list[str]:
        return sorted({reader.finished.reason.value for reader in self._readers if reader.finished is not None})


def _estimated_cost(generation: Generation, entry: ModelEntry) -> int:
    """Tokens of the request before its prompt is tokenized."""
    prompt = generation.prompt
    if prompt.token_ids is not None:
        prompt_tokens = len(prompt.token_ids)
    else:
        texts = [prompt.text or "", *(message.content for message in prompt.messages or ())]
        prompt_tokens = round(FIRST_TOKENS_PER_BYTE * sum(map(len, texts)))
    asked = generation.stopping.max_tokens
    max_tokens = min(DEFAULT_MAX_TOKENS if asked is None else asked, entry.context_length_tokens)
    return prompt_tokens + max_tokens * generation.sampling.best_of


def _max_tokens(generation: Generation, entry: ModelEntry, prompt_tokens: int) -> int:
    rest = entry.context_length_tokens - prompt_tokens
    asked = generation.stopping.max_tokens
    max_tokens = min(DEFAULT_MAX_TOKENS, rest) if asked is None else asked
    if max_tokens > rest:
        raise invalid_field(
            "stopping.max_tokens", f"{max_tokens} is more than the {rest} tokens that the prompt leaves"
        )
    if generation.stopping.min_tokens > max_tokens:
        raise invalid_field("stopping.min_tokens", f"more than the {max_tokens} tokens that can be generated")
    return max_tokens
