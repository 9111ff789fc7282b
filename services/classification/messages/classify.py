"""Messages of Classify."""

from collections.abc import Mapping, Sequence

from naiad.v1 import classification_pb2 as pb

from services.classification.classify_logic import ClassifyOptions, Scored
from services.classification.messages.common import add_scored, fill_timings, known
from services.classification.text_batches import Item, Timings
from services.common.errors import NaiadError, invalid_field

ACTIVATIONS: Mapping[int, str | None] = {
    pb.ACTIVATION_UNSPECIFIED: None,
    pb.ACTIVATION_SOFTMAX: "softmax",
    pb.ACTIVATION_SIGMOID: "sigmoid",
    pb.ACTIVATION_NONE: "none",
}


def read_items(request: pb.ClassifyRequest) -> tuple[str, list[Item]]:
    """Name of the field that is filled, and what is in it."""
    if request.texts and request.pairs:
        raise invalid_field("pairs", "texts and pairs are both given; fill one of them")
    if request.pairs:
        return "pairs", [(pair.first, pair.second) for pair in request.pairs]
    return "texts", list(request.texts)


def read_options(request: pb.ClassifyRequest) -> ClassifyOptions:
    """How the request wants its items classified. Raises INVALID_FIELD."""
    return ClassifyOptions(
        top_k=request.top_k if request.HasField("top_k") else None,
        activation=known(ACTIVATIONS, request.activation, "activation"),
        truncate=request.truncate,
        window_overlap_tokens=request.window_overlap_tokens if request.HasField("window_overlap_tokens") else None,
    )


def response(outcomes: Sequence[Scored | NaiadError], timings: Timings) -> pb.ClassifyResponse:
    """The answer."""
    message = pb.ClassifyResponse()
    add_scored(message.results, outcomes)
    fill_timings(message.timings, timings)
    return message
