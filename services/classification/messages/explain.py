"""Messages of Explain."""

from collections.abc import Mapping

from naiad.v1 import classification_pb2 as pb

from services.classification.entities import byte_spans
from services.classification.explain_logic import (
    DEFAULT_SAMPLES,
    OCCLUSION,
    SHAPLEY,
    ExplainOptions,
    Explanation,
)
from services.classification.messages.common import fill_timings, known
from services.classification.text_batches import Timings

_METHODS: Mapping[int, str | None] = {
    pb.EXPLAIN_METHOD_UNSPECIFIED: SHAPLEY,
    pb.EXPLAIN_METHOD_OCCLUSION: OCCLUSION,
    pb.EXPLAIN_METHOD_SHAPLEY: SHAPLEY,
}


def read_options(request: pb.ExplainRequest) -> ExplainOptions:
    """What the request wants explained, and how. Raises INVALID_FIELD."""
    return ExplainOptions(
        label=request.label if request.HasField("label") else None,
        method=known(_METHODS, request.method, "method") or SHAPLEY,
        max_samples=request.max_samples if request.HasField("max_samples") else DEFAULT_SAMPLES,
        seed=request.seed,
        truncate=request.truncate,
    )


def response(text: str, options: ExplainOptions, explanation: Explanation, timings: Timings) -> pb.ExplainResponse:
    """The answer; `text` is the one that was sent."""
    message = pb.ExplainResponse(
        label=explanation.label,
        score=explanation.score,
        baseline_score=explanation.baseline_score,
        fidelity=explanation.fidelity,
        samples=explanation.samples,
        method=pb.EXPLAIN_METHOD_OCCLUSION if options.method == OCCLUSION else pb.EXPLAIN_METHOD_SHAPLEY,
    )
    shares = explanation.shares
    spans = byte_spans(text, [(word.start, word.end) for word in explanation.words])
    for number, (word, (start_byte, end_byte)) in enumerate(zip(explanation.words, spans, strict=True)):
        message.words.add(
            word=text[word.start : word.end],
            span=pb.TextSpan(start_char=word.start, end_char=word.end, start_byte=start_byte, end_byte=end_byte),
            contribution=shares.values[number],
            standard_error=shares.standard_errors[number],
        )
    fill_timings(message.timings, timings)
    return message
