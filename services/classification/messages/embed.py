"""Messages of Embed."""

from collections.abc import Mapping, Sequence

from naiad.v1 import classification_pb2 as pb

from services.classification.embed_logic import NO_POOLING, Embedded, EmbedOptions
from services.classification.messages.common import fill_timings, item_status, known
from services.classification.text_batches import Timings
from services.common.errors import NaiadError

_POOLINGS: Mapping[int, str | None] = {
    pb.POOLING_UNSPECIFIED: None,
    pb.POOLING_MEAN: "mean",
    pb.POOLING_CLS: "cls",
    pb.POOLING_MAX: "max",
    pb.POOLING_NONE: NO_POOLING,
}


def read_options(request: pb.EmbedRequest) -> EmbedOptions:
    """How the request wants its texts embedded. Raises INVALID_FIELD."""
    return EmbedOptions(
        pooling=known(_POOLINGS, request.pooling, "pooling"),
        normalize=request.normalize if request.HasField("normalize") else None,
        dimensions=request.dimensions if request.HasField("dimensions") else None,
        truncate=request.truncate,
    )


def response(outcomes: Sequence[Embedded | NaiadError], timings: Timings) -> pb.EmbedResponse:
    """The answer."""
    message = pb.EmbedResponse()
    for outcome in outcomes:
        result = message.results.add()
        if isinstance(outcome, NaiadError):
            result.error.CopyFrom(item_status(outcome))
            continue
        result.embedding.tokens = outcome.tokens
        for vector in outcome.vectors:
            result.embedding.vectors.add().values.extend(vector.tolist())
    fill_timings(message.timings, timings)
    return message
