"""naiad.v1.ClassificationService over gRPC: messages in, logic, messages out."""

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.classification.logic import (
    NO_POOLING,
    ClassificationLogic,
    ClassifyOptions,
    EmbedOptions,
    Item,
    Timings,
)
from services.common.call import current_call
from services.common.errors import NaiadError, invalid_field
from services.common.model_info import model_info
from services.common.status import status_message

_Context = grpc.aio.ServicerContext[Any, Any]
_ACTIVATIONS: Mapping[int, str | None] = {
    pb.ACTIVATION_UNSPECIFIED: None,
    pb.ACTIVATION_SOFTMAX: "softmax",
    pb.ACTIVATION_SIGMOID: "sigmoid",
    pb.ACTIVATION_NONE: "none",
}
_POOLINGS: Mapping[int, str | None] = {
    pb.POOLING_UNSPECIFIED: None,
    pb.POOLING_MEAN: "mean",
    pb.POOLING_CLS: "cls",
    pb.POOLING_MAX: "max",
    pb.POOLING_NONE: NO_POOLING,
}


class ClassificationServicer(classification_pb2_grpc.ClassificationServiceServicer):
    """Translates between messages and ClassificationLogic. `model_ready` tells whether Triton can serve a model."""

    def __init__(self, logic: ClassificationLogic, model_ready: Callable[[str], bool]) -> None:
        self._logic = logic
        self._model_ready = model_ready

    async def Classify(self, request: pb.ClassifyRequest, context: _Context) -> pb.ClassifyResponse:
        field, items = _items(request)
        current_call().log_fields.update(model=request.model[:100], texts=len(items))
        options = ClassifyOptions(
            top_k=request.top_k if request.HasField("top_k") else None,
            activation=_known(_ACTIVATIONS, request.activation, "activation"),
            truncate=request.truncate,
        )
        outcomes, timings = await self._logic.classify(request.model, items, options, field)
        response = pb.ClassifyResponse()
        for outcome in outcomes:
            result = response.results.add()
            if isinstance(outcome, NaiadError):
                result.error.CopyFrom(status_message(outcome, current_call().request_id))
                continue
            result.classification.tokens = outcome.tokens
            for label, index, score in outcome.scores:
                result.classification.scores.add(label=label, index=index, score=score)
        _fill_timings(response.timings, timings)
        return response

    async def Embed(self, request: pb.EmbedRequest, context: _Context) -> pb.EmbedResponse:
        current_call().log_fields.update(model=request.model[:100], texts=len(request.texts))
        options = EmbedOptions(
            pooling=_known(_POOLINGS, request.pooling, "pooling"),
            normalize=request.normalize if request.HasField("normalize") else None,
            dimensions=request.dimensions if request.HasField("dimensions") else None,
            truncate=request.truncate,
        )
        outcomes, timings = await self._logic.embed(request.model, request.texts, options)
        response = pb.EmbedResponse()
        for outcome in outcomes:
            result = response.results.add()
            if isinstance(outcome, NaiadError):
                result.error.CopyFrom(status_message(outcome, current_call().request_id))
                continue
            result.embedding.tokens = outcome.tokens
            for vector in outcome.vectors:
                result.embedding.vectors.add().values.extend(vector.tolist())
        _fill_timings(response.timings, timings)
        return response

    async def ListModels(
        self, request: pb.ClassificationServiceListModelsRequest, context: _Context
    ) -> pb.ClassificationServiceListModelsResponse:
        infos = [model_info(entry, self._model_ready(entry.name)) for entry in self._logic.entries()]
        return pb.ClassificationServiceListModelsResponse(models=infos)


def _items(request: pb.ClassifyRequest) -> tuple[str, list[Item]]:
    """Name of the field that is filled, and what is in it."""
    if request.texts and request.pairs:
        raise invalid_field("pairs", "texts and pairs are both given; fill one of them")
    if request.pairs:
        return "pairs", [(pair.first, pair.second) for pair in request.pairs]
    return "texts", list(request.texts)


def _known(names: Mapping[int, str | None], value: int, field: str) -> str | None:
    """What an enumeration's value means. Raises INVALID_FIELD for one that this server does not know."""
    if value not in names:
        raise invalid_field(field, f"{value} is not a value of the enumeration")
    return names[value]


def _fill_timings(target: pb.EncoderTimings, timings: Timings) -> None:
    target.tokenization.FromMicroseconds(timings.tokenization_us)
    target.queue.FromMicroseconds(timings.queue_us)
    target.compute.FromMicroseconds(timings.compute_us)
