"""Messages of ClassifyStream."""

from collections.abc import AsyncIterator, Sequence

from naiad.v1 import classification_pb2 as pb

from services.classification.bulk import BulkAnswer, BulkItem
from services.classification.classify_logic import ClassifyOptions
from services.classification.messages.classify import ACTIVATIONS
from services.classification.messages.common import fill_scored, known
from services.common.bounds import MAX_ID_BYTES
from services.common.errors import invalid_field


async def read_start(
    requests: AsyncIterator[pb.ClassifyStreamRequest],
) -> tuple[str, ClassifyOptions, AsyncIterator[Sequence[BulkItem]]]:
    """Name of the model, how it is used, and the items of each message. Raises INVALID_FIELD."""
    request = await anext(requests, None)
    if request is None or not request.HasField("options"):
        raise invalid_field("options", "the first message must have them")
    options = request.options
    read = ClassifyOptions(
        top_k=options.top_k if options.HasField("top_k") else None,
        activation=known(ACTIVATIONS, options.activation, "options.activation"),
        truncate=options.truncate,
        window_overlap_tokens=options.window_overlap_tokens if options.HasField("window_overlap_tokens") else None,
    )
    return options.model, read, _portions(request, requests)


async def _portions(
    first: pb.ClassifyStreamRequest, rest: AsyncIterator[pb.ClassifyStreamRequest]
) -> AsyncIterator[Sequence[BulkItem]]:
    """Raises INVALID_FIELD at a message that breaks the protocol."""
    yield _read_items(first)
    async for request in rest:
        if request.HasField("options"):
            raise invalid_field("options", "only the first message may have them")
        yield _read_items(request)


def _read_items(request: pb.ClassifyStreamRequest) -> list[BulkItem]:
    return [_read_item(item) for item in request.items]


def _read_item(item: pb.ClassifyStreamItem) -> BulkItem:
    if len(item.id.encode()) > MAX_ID_BYTES:
        return BulkItem("", invalid_field("id", f"more than {MAX_ID_BYTES} bytes"))
    if item.HasField("text"):
        return BulkItem(item.id, item.text)
    if item.HasField("pair"):
        return BulkItem(item.id, (item.pair.first, item.pair.second))
    return BulkItem(item.id, invalid_field("content", "neither text nor pair is given"))


def response(answers: Sequence[BulkAnswer]) -> pb.ClassifyStreamResponse:
    """The answers as one message."""
    message = pb.ClassifyStreamResponse()
    for answer in answers:
        fill_scored(message.results.add(index=answer.index, id=answer.id).result, answer.outcome)
    return message
