import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from services.common.errors import NaiadError, Reason
from services.common.infer_reply import InferReply
from services.common.stream_request import StreamRequest
from services.common.triton_client import FIRST_BACKOFF_S, TritonChannel, TritonStream, unavailable
from tests.support.fake_triton import FakeTriton, Plan, deltas_response


@pytest.fixture
async def stream(channel: TritonChannel) -> AsyncIterator[TritonStream]:
    stream = TritonStream(channel, max_buffered=8)
    stream.start()
    await opened(stream)
    yield stream
    await stream.close()


async def opened(stream: TritonStream) -> None:
    async with asyncio.timeout(10):
        while not stream.is_open:
            stream.retry_now()
            await asyncio.sleep(0.005)


def submit(stream: TritonStream, **parameters: Any) -> StreamRequest:
    return stream.submit("chat", {"input_ids": np.array([5, 6], np.int32)}, parameters)


async def all_replies(request: StreamRequest) -> list[InferReply]:
    replies: list[InferReply] = []
    while not replies or not replies[-1].final:
        replies += await request.next_replies()
    return replies


def ids_of(replies: list[InferReply]) -> list[int]:
    return [token for reply in replies for token in reply.token_ids]


async def failure_of(request: StreamRequest) -> NaiadError:
    with pytest.raises(NaiadError) as caught:
        await all_replies(request)
    return caught.value


async def test_many_requests_share_one_stream_and_keep_their_order(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda seen: Plan(tokens=list(range(seen.parameters["first"], seen.parameters["first"] + 5)))
    requests = [submit(stream, first=100 * i) for i in range(20)]
    answers = await asyncio.gather(*map(all_replies, requests))
    assert [ids_of(answer) for answer in answers] == [[100 * i + k for k in range(5)] for i in range(20)]
    assert fake.streams_opened == 1
    assert len({request.request_id for request in requests}) == 20
    assert stream.live_requests == 0


async def test_tokens_come_in_a_response_of_any_request(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(wait_for_stop=True)
    requests = [submit(stream, num_return_sequences=2) for _ in range(3)]
    while len(fake.requests) < 3:
        fake.request_seen.clear()
        await fake.request_seen.wait()
    keys = [seen.parameters["delta_key"] for seen in fake.requests]
    assert len({seen.parameters["delta_group"] for seen in fake.requests}) == 1
    requests[0].close()
    unknown = max(keys) + 1
    deltas = [
        (keys[0], 0, 0, [1]),
        (keys[1], 1, 0, [2, 3]),
        (unknown, 0, 0, [4]),
        (keys[2], 0, 0, [5]),
        (keys[1], 0, 0, []),
    ]
    fake.send(deltas_response(requests[0].request_id, deltas))
    first, second = await requests[1].next_replies(), await requests[2].next_replies()
    assert [(reply.sequence_index, list(reply.token_ids)) for reply in first] == [(1, [2, 3]), (0, [])]
    assert [(reply.sequence_index, list(reply.token_ids)) for reply in second] == [(0, [5])]


@pytest.mark.parametrize(
    "change", [lambda numbers: numbers[:-1], lambda numbers: numbers[:2], lambda numbers: [-1] * 5]
)
async def test_a_response_for_many_that_contradicts_itself_fails_them(
    fake: FakeTriton, stream: TritonStream, change: Callable[[list[int]], list[int]]
) -> None:
    fake.plan = lambda _: Plan(wait_for_stop=True)
    request = submit(stream)
    async with asyncio.timeout(5):
        await fake.request_seen.wait()
    response = deltas_response("r1", [(1, 0, 0, [7]), (2, 0, 0, [7])])
    numbers = np.frombuffer(response.infer_response.raw_output_contents[0], np.int32).tolist()
    response.infer_response.raw_output_contents[0] = np.array(change(numbers), np.int32).tobytes()
    fake.send(response)
    assert (await failure_of(request)).reason is Reason.INTERNAL


async def test_each_stream_has_a_group_of_its_own(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=[1])
    await all_replies(submit(stream))
    await fake.die()
    await fake.start()
    async with asyncio.timeout(10):
        while len(fake.requests) < 2:
            await opened(stream)
            try:
                await all_replies(submit(stream))
            except NaiadError:
                continue
    first, second = (seen.parameters["delta_group"] for seen in fake.requests)
    assert first != second


async def test_a_stop_message_ends_the_request_with_its_last_reply(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=[1, 2], wait_for_stop=True)
    request = submit(stream)
    await request.next_replies()
    request.stop()
    request.stop()
    replies = await all_replies(request)
    assert replies[-1].parameters["finish_reason"] == "cancelled"
    assert fake.stopped_ids == [request.request_id]
    request.stop()
    request.close()
    assert fake.stopped_ids == [request.request_id]


async def test_a_sequence_is_stopped_once_and_the_others_go_on(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda seen: Plan(tokens=[seen.sequence_index], wait_for_stop=True)
    request = submit(stream, num_return_sequences=3)
    request.stop(1)
    request.stop(1)
    replies: list[InferReply] = []
    while not any("finish_reason" in reply.parameters for reply in replies):
        replies += await request.next_replies()
    assert [r.int_parameter("sequence_index") for r in replies if "finish_reason" in r.parameters] == [1]
    assert not replies[-1].final
    request.stop()
    request.stop(2)
    replies += await all_replies(request)
    assert sorted(r.int_parameter("sequence_index") for r in replies if "finish_reason" in r.parameters) == [0, 1, 2]
    assert fake.stopped_sequences == [(request.request_id, 1)]
    assert fake.stopped_ids == [request.request_id]


async def test_every_sequence_has_its_share_of_the_buffer(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=[1, 2, 3, 4, 5, 6, 7])
    unread = submit(stream, num_return_sequences=3)
    while stream.is_live(unread):
        await all_replies(submit(stream))
    assert len(ids_of(await all_replies(unread))) == 21


async def test_a_closed_request_is_stopped_and_others_go_on(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda seen: Plan(tokens=[1], wait_for_stop=seen.parameters["wait"])
    gone, stays = submit(stream, wait=True), submit(stream, wait=False)
    gone.close()
    assert ids_of(await all_replies(stays)) == [1]
    async with asyncio.timeout(5):
        await fake.stop_seen.wait()
    assert fake.stopped_ids == [gone.request_id]
    assert fake.streams_opened == 1


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan(error=("RESOURCE_EXHAUSTED", "no blocks")), Reason.OVERLOADED),
        (Plan(error=("INTERNAL", "bug")), Reason.INTERNAL),
        (Plan(stream_error="[INVALID_ARGUMENT] request_output_len: missing"), Reason.INVALID_FIELD),
        (Plan(stream_error="[RESOURCE_EXHAUSTED] inbox full"), Reason.OVERLOADED),
        (Plan(stream_error="something of Triton"), Reason.INTERNAL),
    ],
)
async def test_errors_of_the_engine_reach_their_request_only(
    fake: FakeTriton, stream: TritonStream, plan: Plan, reason: Reason
) -> None:
    fake.plan = lambda seen: plan if seen.parameters["bad"] else Plan(tokens=[1])
    bad, good = submit(stream, bad=True), submit(stream, bad=False)
    assert (await failure_of(bad)).reason is reason
    assert ids_of(await all_replies(good)) == [1]


async def test_a_broken_stream_fails_all_at_once_and_is_opened_again(fake: FakeTriton, stream: TritonStream) -> None:
    breaks: list[int] = []
    stream.on_break(lambda: breaks.append(1))
    fake.plan = lambda _: Plan(tokens=[1], wait_for_stop=True)
    requests = [submit(stream) for _ in range(3)]
    for request in requests:
        await request.next_replies()
    await fake.die()
    async with asyncio.timeout(1):
        errors = await asyncio.gather(*map(failure_of, requests))
    assert {error.reason for error in errors} == {Reason.ENGINE_UNAVAILABLE}
    assert breaks
    fake.plan = lambda _: Plan(tokens=[7])
    await fake.start()
    async with asyncio.timeout(10):
        while True:
            await opened(stream)
            try:
                assert ids_of(await all_replies(submit(stream))) == [7]
                break
            except NaiadError as error:
                assert error.reason is Reason.ENGINE_UNAVAILABLE


async def test_without_a_stream_a_request_fails_at_once() -> None:
    channel = TritonChannel("127.0.0.1:1", retry_after_ms=500)
    with pytest.raises(NaiadError) as caught:
        submit(TritonStream(channel, 8))
    assert caught.value.reason is Reason.ENGINE_UNAVAILABLE
    await channel.close()


async def test_a_reader_that_never_reads_has_its_request_ended(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=list(range(100)), wait_for_stop=True)
    request = submit(stream)
    async with asyncio.timeout(5):
        await fake.stop_seen.wait()
    assert (await failure_of(request)).reason is Reason.OVERLOADED
    assert fake.stopped_ids == [request.request_id]


async def test_closing_ends_requests_and_stream(fake: FakeTriton, channel: TritonChannel) -> None:
    stream = TritonStream(channel, 8)
    stream.start()
    await opened(stream)
    fake.plan = lambda _: Plan(wait_for_stop=True)
    request = submit(stream)
    await stream.close()
    assert (await failure_of(request)).reason is Reason.SHUTTING_DOWN


async def test_a_stall_fails_requests_and_tells_the_engine(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=[1], wait_for_stop=True)
    request = submit(stream)
    await request.next_replies()
    stream.fail_all(unavailable())
    assert (await failure_of(request)).reason is Reason.ENGINE_UNAVAILABLE
    async with asyncio.timeout(5):
        await fake.stop_seen.wait()


async def test_an_error_of_a_forgotten_request_harms_no_other(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda seen: Plan(stream_error="lost") if seen.parameters["bad"] else Plan(wait_for_stop=True)
    waiting = submit(stream, bad=False)
    bad = submit(stream, bad=True)
    stream.forget(bad)  # its answer now belongs to no one, and must not harm others
    await asyncio.sleep(0)
    waiting.stop()
    assert (await all_replies(waiting))[-1].parameters["finish_reason"] == "cancelled"


async def test_a_resumed_request_counts_the_tokens_that_came_before(fake: FakeTriton, stream: TritonStream) -> None:
    fake.plan = lambda _: Plan(tokens=[3, 4, 5])
    request = submit(stream, resumed_tokens=10)
    replies = await all_replies(request)
    assert ids_of(replies) == [3, 4, 5]
    assert [reply.first_token for reply in replies if reply.token_ids] == [10, 11, 12]


async def test_no_stream_is_opened_to_a_triton_that_is_to_end_until_it_is_ready(
    fake: FakeTriton, stream: TritonStream
) -> None:
    await all_replies(submit(stream))
    ended = asyncio.Event()
    fake.stream_opened.clear()
    stream.on_break(ended.set)
    stream.release()
    async with asyncio.timeout(5):
        await ended.wait()  # Triton sees its end, and may go
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(6 * FIRST_BACKOFF_S):
            await fake.stream_opened.wait()
    stream.retry_now()
    async with asyncio.timeout(5):
        await fake.stream_opened.wait()
    await opened(stream)
    assert (await all_replies(submit(stream)))[-1].final


async def test_an_unused_stream_is_kept(fake: FakeTriton, stream: TritonStream) -> None:
    stream.release()
    assert stream.is_open
    assert (await all_replies(submit(stream)))[-1].final
