"""Messages of ClassifyZeroShot."""

from naiad.v1 import classification_pb2 as pb

from services.classification.messages.common import add_scored, fill_timings
from services.classification.zero_shot_logic import DEFAULT_TEMPLATE, ZeroShotAnswer, ZeroShotOptions


def read_options(request: pb.ClassifyZeroShotRequest) -> ZeroShotOptions:
    """The labels, and how the request wants its texts scored against them."""
    given = request.HasField("hypothesis_template")
    return ZeroShotOptions(
        labels=list(request.labels),
        hypothesis_template=request.hypothesis_template if given else DEFAULT_TEMPLATE,
        multi_label=request.multi_label,
        truncate=request.truncate,
    )


def response(answer: ZeroShotAnswer) -> pb.ClassifyZeroShotResponse:
    """The answer."""
    message = pb.ClassifyZeroShotResponse(
        method=pb.SCORING_METHOD_ENTAILMENT if answer.entailment else pb.SCORING_METHOD_EMBEDDING
    )
    add_scored(message.results, answer.outcomes)
    fill_timings(message.timings, answer.timings)
    return message
