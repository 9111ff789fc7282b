"""naiad.v1.ClassificationService over gRPC: messages in, logic, messages out."""

from collections.abc import Callable
from typing import Any, NoReturn

import grpc
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.classification.classify_logic import ClassifyLogic
from services.classification.embed_logic import EmbedLogic
from services.classification.messages import classify as classify_messages
from services.classification.messages import embed as embed_messages
from services.classification.messages import rerank as rerank_messages
from services.classification.messages import tokens as token_messages
from services.classification.messages import zero_shot as zero_shot_messages
from services.classification.messages.common import note_call
from services.classification.rerank_logic import RerankLogic
from services.classification.text_batches import TextBatches
from services.classification.token_logic import TokenLogic
from services.classification.zero_shot_logic import ZeroShotLogic
from services.common.model_info import model_info
from services.common.registry import Task

_Context = grpc.aio.ServicerContext[Any, Any]
TASKS = (Task.CLASSIFY, Task.CLASSIFY_TOKENS, Task.EMBED)


class ClassificationServicer(classification_pb2_grpc.ClassificationServiceServicer):
    """Translates between messages and logic. `model_ready` tells whether Triton can serve a model."""

    def __init__(self, batches: TextBatches, model_ready: Callable[[str], bool]) -> None:
        self._registry = batches.models.registry
        self._model_ready = model_ready
        self._classify = ClassifyLogic(batches)
        self._embed = EmbedLogic(batches)
        self._tokens = TokenLogic(batches)
        self._rerank = RerankLogic(batches)
        self._zero_shot = ZeroShotLogic(batches)

    async def Classify(self, request: pb.ClassifyRequest, context: _Context) -> pb.ClassifyResponse:
        note_call(request.model, len(request.texts) + len(request.pairs))
        field, items = classify_messages.read_items(request)
        options = classify_messages.read_options(request)
        return classify_messages.response(*await self._classify.classify(request.model, items, options, field))

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        note_call(request.model, len(request.texts))
        options = embed_messages.read_options(request)
        return embed_messages.response(*await self._embed.embed(request.model, request.texts, options))

    async def ClassifyTokens(self, request: pb.ClassifyTokensRequest, context: _Context) -> pb.ClassifyTokensResponse:
        note_call(request.model, len(request.texts))
        options = token_messages.read_options(request)
        return token_messages.response(*await self._tokens.classify_tokens(request.model, request.texts, options))

    async def Rerank(self, request: pb.RerankRequest, context: _Context) -> pb.RerankResponse:
        note_call(request.model, len(request.documents))
        options = rerank_messages.read_options(request)
        reranked = await self._rerank.rerank(request.model, request.query, request.documents, options)
        return rerank_messages.response(request, reranked)

    async def ClassifyZeroShot(
        self, request: pb.ClassifyZeroShotRequest, context: _Context
    ) -> pb.ClassifyZeroShotResponse:
        note_call(request.model, len(request.texts))
        options = zero_shot_messages.read_options(request)
        answer = await self._zero_shot.classify_zero_shot(request.model, request.texts, options)
        return zero_shot_messages.response(answer)

    async def ClassifyStream(self, request_iterator: Any, context: _Context) -> None:  # type: ignore[override]
        await _unimplemented(context)

    async def Explain(self, request: pb.ExplainRequest, context: _Context) -> pb.ExplainResponse:
        await _unimplemented(context)

    async def ListModels(
        self, request: pb.ClassificationServiceListModelsRequest, context: _Context
    ) -> pb.ClassificationServiceListModelsResponse:
        infos = [model_info(entry, self._model_ready(entry.name)) for entry in self._registry.with_task(*TASKS)]
        return pb.ClassificationServiceListModelsResponse(models=infos)


async def _unimplemented(context: _Context) -> NoReturn:
    await context.abort(grpc.StatusCode.UNIMPLEMENTED, "this server does not have the method yet")
