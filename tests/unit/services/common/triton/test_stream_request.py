import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.stream_request import RequestLimits, StreamRequest


class Stream:
    """Notes what a request asks of its stream."""

    def __init__(self) -> None:
        self.live = True
        self.stops: list[int | None] = []

    def is_live(self, request: StreamRequest) -> bool:
        return self.live

    def send_stop(self, request: StreamRequest, sequence_index: int | None) -> None:
        self.stops.append(sequence_index)

    def forget(self, request: StreamRequest) -> None:
        self.live = False


@pytest.fixture
def stream() -> Stream:
    return Stream()


def request_on(stream: Stream, max_buffered: int = 8, num_sequences: int = 1) -> StreamRequest:
    return StreamRequest(stream, "chat", "r1", 1, RequestLimits(num_sequences, max_buffered))


def tokens(first: int | None, ids: Sequence[int], sequence: int = 0) -> InferReply:
    return InferReply({}, {}, False, sequence, ids, first)


def end(first: int, ids: Sequence[int] = (), sequence: int = 0, final: bool = True) -> InferReply:
    return InferReply({}, {"finish_reason": "length"}, final, sequence, ids, first)


async def test_replies_in_their_order_come_at_once(stream: Stream) -> None:
    request = request_on(stream)
    replies = [tokens(0, [1]), tokens(1, [2, 3]), end(3, [4])]
    for reply in replies:
        request.deliver(reply)
    assert await request.next_replies() == replies
    assert not stream.live


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (2, 0, 1), (1, 0, 2), (0, 2, 1)])
async def test_replies_that_come_early_wait_for_those_before_them(stream: Stream, order: Sequence[int]) -> None:
    request = request_on(stream)
    replies = [tokens(0, [1]), tokens(1, [2, 3]), end(3, [4])]
    for index in order:
        assert stream.live
        request.deliver(replies[index])
    assert await request.next_replies() == replies
    assert not stream.live


async def test_the_last_reply_waits_for_the_tokens_of_other_sequences(stream: Stream) -> None:
    request = request_on(stream, num_sequences=2)
    late, other_end, last = tokens(0, [5], sequence=1), end(1, sequence=1, final=False), end(0)
    request.deliver(other_end)
    request.deliver(last)
    assert stream.live
    request.deliver(late)
    assert await request.next_replies() == [late, other_end, last]
    assert not stream.live


async def test_a_waiting_reader_wakes_with_what_is_in_order_only(stream: Stream) -> None:
    request = request_on(stream)
    reader = asyncio.create_task(request.next_replies())
    request.deliver(tokens(1, [2]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not reader.done()
    request.deliver(tokens(0, [1]))
    assert [list(reply.token_ids) for reply in await reader] == [[1], [2]]


async def test_replies_without_a_place_are_never_held(stream: Stream) -> None:
    request = request_on(stream)
    replies = [tokens(None, []), tokens(None, [1]), end(1)]
    for reply in replies:
        request.deliver(reply)
    assert await request.next_replies() == replies


@pytest.mark.parametrize("first", [0, 1])
async def test_a_reader_that_never_reads_is_refused_whether_replies_wait_for_it_or_for_others(
    stream: Stream, first: int
) -> None:
    request = request_on(stream, max_buffered=3)
    for index in range(4):
        request.deliver(tokens(first + index, [index]))
    assert stream.stops == [None]
    assert not stream.live
    with pytest.raises(NaiadError) as caught:
        await request.next_replies()
    assert caught.value.reason is Reason.OVERLOADED


async def test_few_large_replies_are_too_many_for_a_slow_reader_too(stream: Stream) -> None:
    request = StreamRequest(stream, "chat", "r1", 1, RequestLimits(1, 1_000, max_buffered_bytes=10_000))
    large = np.zeros(1_000, np.float32)
    for number in range(3):
        for reply in (
            tokens(2 * number, [1]),
            InferReply({"output_log_probs": large}, {}, False, 0, [1], 2 * number + 1),
        ):
            request.deliver(reply)
        assert len(await request.next_replies()) == 2  # what was read does not count any more
    for number in range(6, 9):
        request.deliver(InferReply({"output_log_probs": large}, {}, False, 0, [1], number))
    with pytest.raises(NaiadError, match="reads too slowly"):
        await request.next_replies()
    assert stream.stops == [None]


async def test_what_never_comes_ends_the_request(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.common.stream_request.MAX_LATE_S", 0.01)
    request = request_on(stream)
    request.deliver(end(1))
    with pytest.raises(NaiadError) as caught:
        await request.next_replies()
    assert caught.value.reason is Reason.INTERNAL
    assert stream.stops == [None]


async def test_a_failure_comes_after_the_replies_before_it(stream: Stream) -> None:
    request = request_on(stream)
    request.deliver(tokens(0, [1]))
    request.fail(NaiadError(Reason.ENGINE_UNAVAILABLE, "gone"))
    assert len(await request.next_replies()) == 1
    with pytest.raises(NaiadError):
        await request.next_replies()
