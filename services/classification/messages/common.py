"""What messages of several RPCs share."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from google.protobuf.duration_pb2 import Duration
from google.rpc import status_pb2
from naiad.v1 import classification_pb2 as pb

from services.classification.classify_logic import Scored
from services.classification.text_batches import Timings
from services.common.call import current_call
from services.common.errors import NaiadError, invalid_field
from services.common.status import status_message


def known(names: Mapping[int, str | None], value: int, field: str) -> str | None:
    """What an enumeration's value means. Raises INVALID_FIELD for one that this server does not know."""
    if value not in names:
        raise invalid_field(field, f"{value} is not a value of the enumeration")
    return names[value]


def item_status(error: NaiadError) -> status_pb2.Status:
    """The error of one item of the current call."""
    call = current_call()
    return status_message(error, call.request_id, call.trace.trace_id)


class _Results(Protocol):
    def add(self) -> pb.ClassifyResult: ...


def add_scored(results: _Results, outcomes: Sequence[Scored | NaiadError]) -> None:
    """Adds a result for each item."""
    for outcome in outcomes:
        fill_scored(results.add(), outcome)


def fill_scored(result: pb.ClassifyResult, outcome: Scored | NaiadError) -> None:
    """Writes the result of one item."""
    if isinstance(outcome, NaiadError):
        result.error.CopyFrom(item_status(outcome))
        return
    result.classification.tokens = outcome.tokens
    for label, index, score in outcome.scores:
        result.classification.scores.add(label=label, index=index, score=score)


def fill_timings(target: pb.EncoderTimings, timings: Timings) -> None:
    """Writes the timings into the message."""
    _fill_duration(target.tokenization, timings.tokenization_us)
    _fill_duration(target.queue, timings.queue_us)
    _fill_duration(target.compute, timings.compute_us)


def _fill_duration(target: Duration, microseconds: int) -> None:
    # FromMicroseconds checks and converts more than can happen here; there are three in every answer.
    target.seconds, target.nanos = divmod(1_000 * microseconds, 1_000_000_000)
