"""naiad.v1.GenerationService over gRPC: messages in, logic, messages out."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

from services.common.call import current_call, may_use_model
from services.common.model_info import model_info
from services.common.registry import Task
from services.common.write_stall import StallGuard
from services.generation.events import Event
from services.generation.logic import GenerationLogic
from services.generation.messages import generate_message, score_message, stream_message
from services.generation.scoring import score, score_model
from services.generation.validation import read_generation, read_score

_Context = grpc.aio.ServicerContext[Any, Any]


class GenerationServicer(generation_pb2_grpc.GenerationServiceServicer):
    """Translates between messages and GenerationLogic. `is_ready(model)` tells whether the engine serves a model.

    A stream whose client has not read for `write_stall_timeout_ms` ends.
    """

    def __init__(self, logic: GenerationLogic, is_ready: Callable[[str], bool], write_stall_timeout_ms: int) -> None:
        self._logic = logic
        self._is_ready = is_ready
        self._write_stall_timeout_s = write_stall_timeout_ms / 1000

    async def Generate(self, request: pb.GenerateRequest, context: _Context) -> pb.GenerateResponse:
        call = current_call()
        result = await self._logic.generate(request.model, lambda entry: read_generation(request, entry), call)
        return generate_message(result)

    # It writes by itself: a generator would cost each token more, and see a cancelled write only when it is closed.
    async def GenerateStream(self, request: pb.GenerateStreamRequest, context: _Context) -> None:  # type: ignore[override]
        call = current_call()
        async with StallGuard(context.write, self._write_stall_timeout_s) as guard:

            def write(event: Event) -> Awaitable[None]:
                return guard.write(stream_message(event, call.request_id))

            await self._logic.stream(request.model, lambda entry: read_generation(request, entry), call, write)

    async def Score(self, request: pb.ScoreRequest, context: _Context) -> pb.ScoreResponse:
        call = current_call()
        model = await score_model(self._logic, request.model)
        prompt, top_logprobs = read_score(request, model.entry)
        result = await score(self._logic, model, prompt, top_logprobs, call)
        return await asyncio.to_thread(score_message, result)

    async def ListModels(
        self, request: pb.GenerationServiceListModelsRequest, context: _Context
    ) -> pb.GenerationServiceListModelsResponse:
        entries = self._logic.models.registry.with_task(Task.GENERATE)
        return pb.GenerationServiceListModelsResponse(
            models=[
                model_info(entry, ready=self._is_ready(entry.name)) for entry in entries if may_use_model(entry.name)
            ]
        )
