"""Messages of Embed."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from naiad.v1 import classification_pb2 as pb

from services.classification.embed_logic import NO_POOLING, Embedded, EmbedOptions
from services.classification.messages.common import fill_timings, item_status, known
from services.classification.text_batches import Timings
from services.common.errors import NaiadError

_FLOAT_BYTES = 4
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
        head = _values_head(outcome.vectors.shape[1])
        for vector in outcome.vectors:
            result.embedding.vectors.add().MergeFromString(head + vector.tobytes())
    fill_timings(message.timings, timings)
    return message


@lru_cache(maxsize=256)
def _values_head(dimensions: int) -> bytes:
    """What comes before the floats of a Vector in its serialized form: so they need not become objects of Python."""
    values = pb.Vector(values=(0.0,) * dimensions).SerializeToString()
    return values[: len(values) - _FLOAT_BYTES * dimensions]
