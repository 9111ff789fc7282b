"""naiad.v1.ClassificationService over gRPC: messages in, logic, messages out."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.classification.bulk import BulkAnswer, BulkLimits
from services.classification.bulk_logic import BulkLogic
from services.classification.classify_logic import ClassifyLogic
from services.classification.embed_logic import EmbedLogic
from services.classification.explain_logic import ExplainLogic
from services.classification.messages import bulk as bulk_messages
from services.classification.messages import classify as classify_messages
from services.classification.messages import embed as embed_messages
from services.classification.messages import explain as explain_messages
from services.classification.messages import rerank as rerank_messages
from services.classification.messages import tokens as token_messages
from services.classification.messages import zero_shot as zero_shot_messages
from services.classification.rerank_logic import RerankLogic
from services.classification.text_batches import TextBatches
from services.classification.token_logic import TokenLogic
from services.classification.zero_shot_logic import ZeroShotLogic
from services.common.call import may_use_model, note_in_log
from services.common.model_info import model_info
from services.common.registry import Task
from services.common.write_stall import StallGuard

_Context = grpc.aio.ServicerContext[Any, Any]
TASKS = (Task.CLASSIFY, Task.CLASSIFY_TOKENS, Task.EMBED)


class ClassificationServicer(classification_pb2_grpc.ClassificationServiceServicer):
    """Translates between messages and logic."""

    def __init__(
        self,
        batches: TextBatches,
        model_ready: Callable[[str], bool],
        bulk_limits: BulkLimits,
        stopping: asyncio.Event,
        write_stall_timeout_ms: int,
    ) -> None:
        """`model_ready` tells whether Triton can serve a model; `stopping` is set when the service shuts down.

        A stream whose client has not read for `write_stall_timeout_ms` ends.
        """
        self._write_stall_timeout_s = write_stall_timeout_ms / 1000
        self._registry = batches.models.registry
        self._model_ready = model_ready
        self._classify = ClassifyLogic(batches)
        self._embed = EmbedLogic(batches)
        self._tokens = TokenLogic(batches)
        self._rerank = RerankLogic(batches)
        self._zero_shot = ZeroShotLogic(batches)
        self._explain = ExplainLogic(batches)
        self._bulk = BulkLogic(batches, bulk_limits, stopping)

    async def Classify(self, request: pb.ClassifyRequest, context: _Context) -> pb.ClassifyResponse:
        note_in_log(texts=len(request.texts) + len(request.pairs))
        field, items = classify_messages.read_items(request)
        options = classify_messages.read_options(request)
        return classify_messages.response(*await self._classify.classify(request.model, items, options, field))

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        note_in_log(texts=len(request.texts))
        options = embed_messages.read_options(request)
        return embed_messages.response(*await self._embed.embed(request.model, request.texts, options))

    async def ClassifyTokens(self, request: pb.ClassifyTokensRequest, context: _Context) -> pb.ClassifyTokensResponse:
        note_in_log(texts=len(request.texts))
        options = token_messages.read_options(request)
        return token_messages.response(*await self._tokens.classify_tokens(request.model, request.texts, options))

    async def Rerank(self, request: pb.RerankRequest, context: _Context) -> pb.RerankResponse:
        note_in_log(texts=len(request.documents))
        options = rerank_messages.read_options(request)
        reranked = await self._rerank.rerank(request.model, request.query, request.documents, options)
        return rerank_messages.response(request, reranked)

    async def ClassifyZeroShot(
        self, request: pb.ClassifyZeroShotRequest, context: _Context
    ) -> pb.ClassifyZeroShotResponse:
        note_in_log(texts=len(request.texts))
        options = zero_shot_messages.read_options(request)
        answer = await self._zero_shot.classify_zero_shot(request.model, request.texts, options)
        return zero_shot_messages.response(answer)

    # It writes by itself: answers come when they are there, whatever is read meanwhile.
    async def ClassifyStream(  # type: ignore[override]
        self, request_iterator: AsyncIterator[pb.ClassifyStreamRequest], context: _Context
    ) -> None:
        model_name, options, portions = await bulk_messages.read_start(request_iterator)

        async with StallGuard(context.write, self._write_stall_timeout_s) as guard:

            async def write(answers: Sequence[BulkAnswer]) -> None:
                await guard.write(bulk_messages.response(answers))

            await self._bulk.classify_stream(model_name, options, portions, write)

    async def Explain(self, request: pb.ExplainRequest, context: _Context) -> pb.ExplainResponse:
        note_in_log(texts=1)
        options = explain_messages.read_options(request)
        return explain_messages.response(
            request.text, options, *await self._explain.explain(request.model, request.text, options)
        )

    async def ListModels(
        self, request: pb.ClassificationServiceListModelsRequest, context: _Context
    ) -> pb.ClassificationServiceListModelsResponse:
        entries = [entry for entry in self._registry.with_task(*TASKS) if may_use_model(entry.name)]
        infos = [model_info(entry, self._model_ready(entry.name)) for entry in entries]
        return pb.ClassificationServiceListModelsResponse(models=infos)
