"""Messages of ClassifyTokens."""

from collections.abc import Mapping, Sequence

from naiad.v1 import classification_pb2 as pb

from services.classification.entities import Merge
from services.classification.messages.common import fill_timings, item_status, known
from services.classification.text_batches import Timings
from services.classification.token_logic import Labelled, TokenOptions
from services.common.errors import NaiadError

_MERGES: Mapping[int, str | None] = {
    pb.ENTITY_MERGE_UNSPECIFIED: None,
    pb.ENTITY_MERGE_ENTITIES: Merge.ENTITIES.value,
    pb.ENTITY_MERGE_WORDS: Merge.WORDS.value,
    pb.ENTITY_MERGE_TOKENS: Merge.TOKENS.value,
}


def read_options(request: pb.ClassifyTokensRequest) -> TokenOptions:
    """How the request wants its texts labelled. Raises INVALID_FIELD."""
    return TokenOptions(
        merge=Merge(known(_MERGES, request.merge, "merge") or Merge.ENTITIES.value),
        min_score=request.min_score,
        include_outside=request.include_outside,
        truncate=request.truncate,
        window_overlap_tokens=request.window_overlap_tokens if request.HasField("window_overlap_tokens") else None,
    )


def response(outcomes: Sequence[Labelled | NaiadError], timings: Timings) -> pb.ClassifyTokensResponse:
    """The answer."""
    message = pb.ClassifyTokensResponse()
    for outcome in outcomes:
        result = message.results.add()
        if isinstance(outcome, NaiadError):
            result.error.CopyFrom(item_status(outcome))
            continue
        result.entities.tokens = outcome.tokens
        for found in outcome.entities:
            entity = found.entity
            span = pb.TextSpan(
                start_char=entity.start, end_char=entity.end, start_byte=found.start_byte, end_byte=found.end_byte
            )
            result.entities.entities.add(label=entity.label, score=entity.score, span=span, text=found.text)
    fill_timings(message.timings, timings)
    return message
