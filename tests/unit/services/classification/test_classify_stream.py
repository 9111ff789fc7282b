"""ClassifyStream over gRPC, with Triton faked behind its own protocol."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status
from naiad.v1 import classification_pb2 as pb
from naiad.v1 import classification_pb2_grpc

from services.classification.app import SERVICE_NAME, build
from services.common.server import RunningServer
from services.common.settings import ClassificationSettings
from tests.support.fake_triton import FakeTriton, infer_response, tensors_of
from tests.support.running_service import running, wait_for_health
from tests.unit.services.classification.tiny_encoders import FakeChannel, write_repository

ITEM = pb.ClassifyStreamItem
OPTIONS = pb.ClassifyStreamOptions(model="sentiment", top_k=1)
LONG = "one two three four five"  # seven tokens, the model reads six


def answer(request: Any) -> Any:
    """What FakeChannel computes, as Triton sends it."""
    tensor = FakeChannel.compute(request, "logits")
    return infer_response(request.id, {"logits": tensor}, {"queue_us": 30, "compute_us": 20}, final=True)


@dataclass
class Service:
    """A running service, its Triton, and a client of it."""

    server: RunningServer
    triton: FakeTriton
    stub: Any

    def open(self, *requests: pb.ClassifyStreamRequest) -> "Call":
        return Call(self.stub.ClassifyStream(), requests)

    async def answers(self, *requests: pb.ClassifyStreamRequest) -> list[pb.ClassifyStreamResult]:
        """Answers to a stream that sends these and ends."""
        call = self.open(*requests)
        await call.send_all()
        await call.end()
        return await call.rest()


class Call:
    """A stream, read and written by hand."""

    def __init__(self, call: Any, requests: tuple[pb.ClassifyStreamRequest, ...]) -> None:
        self.call = call
        self.requests = requests
        self.read: list[pb.ClassifyStreamResult] = []

    async def send_all(self) -> None:
        for request in self.requests:
            await self.send(request)

    async def send(self, request: pb.ClassifyStreamRequest) -> None:
        await self.call.write(request)

    async def end(self) -> None:
        await self.call.done_writing()

    async def next(self) -> list[pb.ClassifyStreamResult]:
        response = await self.call.read()
        assert response is not grpc.aio.EOF, await self.call.code()
        self.read += response.results
        return list(response.results)

    async def rest(self) -> list[pb.ClassifyStreamResult]:
        while (response := await self.call.read()) is not grpc.aio.EOF:
            self.read += response.results
        return self.read

    async def failure(self) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.rest()
        return caught.value.code(), caught.value.details()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Starts the service with other settings than usual."""
    repository = write_repository(tmp_path / "models")

    @asynccontextmanager
    async def start(**changes: int) -> AsyncIterator[Service]:
        triton = FakeTriton()
        triton.infer = answer
        await triton.start()
        fast = {"triton_probe_interval_ms": 20, "triton_probe_timeout_ms": 200, "triton_stall_timeout_ms": 400}
        settings = ClassificationSettings(
            model_repository=repository, triton_address=triton.address, canary_interval_ms=0, **{**fast, **changes}
        )
        async with running(build(settings), settings) as (server, channel):
            await wait_for_health(channel, SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
            yield Service(server, triton, classification_pb2_grpc.ClassificationServiceStub(channel))
        await triton.die()

    yield start


@pytest.fixture
async def service(serve: Callable[..., Any]) -> AsyncIterator[Service]:
    async with serve() as started:
        yield started


def start(*items: pb.ClassifyStreamItem, **options: Any) -> pb.ClassifyStreamRequest:
    merged = pb.ClassifyStreamOptions(**options)
    merged.MergeFrom(OPTIONS) if "model" not in options else None
    return pb.ClassifyStreamRequest(options=merged, items=items)


def more(*items: pb.ClassifyStreamItem) -> pb.ClassifyStreamRequest:
    return pb.ClassifyStreamRequest(items=items)


def scores(results: list[pb.ClassifyStreamResult]) -> list[float | str]:
    """The best score of each, or the field that is wrong."""
    return [
        _field(result.result.error) if result.result.HasField("error") else result.result.classification.scores[0].score
        for result in results
    ]


def _field(status: Any) -> str:
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    return str(status.message.split(":")[0])


async def test_items_are_answered_in_order_with_their_ids(service: Service) -> None:
    texts = ["one", "two three", "four"] * 100
    items = [ITEM(id=f"item-{number}", text=text) for number, text in enumerate(texts)]
    results = await service.answers(start(*items[:7]), more(), more(*items[7:200]), more(*items[200:]))
    assert [result.index for result in results] == list(range(300))
    assert [result.id for result in results] == [item.id for item in items]
    assert scores(results) == [14.0, 28.0, 17.0] * 100
    assert results[1].result.classification.tokens == 4
    sizes = [len(seen.inputs["sequence_lengths"]) for seen in service.triton.requests]
    assert sum(sizes) == 300
    assert len(sizes) < 10  # packed


async def test_a_bad_item_answers_for_itself_alone(service: Service) -> None:
    pair = pb.TextPair(first="one", second="two")
    large = "x" * (1024 * 1024 + 1)
    results = await service.answers(
        start(ITEM(text="one"), ITEM(text=LONG), ITEM(), ITEM(pair=pair)),
        more(ITEM(id="é" * 129, text="one"), ITEM(text=large)),
        more(ITEM(pair=pb.TextPair(first="one", second=large)), ITEM(text=""), ITEM(text="two")),
    )
    assert scores(results) == [14.0, "text", "content", 228.0, "id", "text", "pair.second", 3.0, 15.0]
    assert "has 7 tokens, more than the model's 6" in results[1].result.error.message
    assert results[4].id == ""


async def test_long_items_can_be_cut_or_read_in_windows(service: Service) -> None:
    (cut,) = await service.answers(start(ITEM(text=LONG), model="sentiment", truncate=True))
    assert cut.result.classification.tokens == 6
    pair = pb.TextPair(first="one", second="two")
    windows, refused = await service.answers(
        start(ITEM(text=LONG), ITEM(pair=pair), model="sentiment", window_overlap_tokens=2)
    )
    # Windows one..four and three..five: sums 53 and 45 weigh 4 and 1, lengths 6 and 5.
    found = {score.label: score.score for score in windows.result.classification.scores}
    assert found == {"sum": pytest.approx((4 * 53 + 45) / 5), "length": pytest.approx(5.8), "first": 1.0}
    assert windows.result.classification.tokens == 7
    assert scores([refused]) == ["pair"]


async def test_a_lone_item_does_not_wait_for_others(service: Service) -> None:
    call = service.open(start())
    await call.send_all()
    for number in range(3):
        await call.send(more(ITEM(text="one")))
        async with asyncio.timeout(5):
            assert [result.index for result in await call.next()] == [number]
    await call.end()
    assert len(await call.rest()) == 3


@pytest.mark.parametrize(
    ("request_", "code", "field"),
    [
        (pb.ClassifyStreamRequest(items=[ITEM(text="one")]), "INVALID_ARGUMENT", "options"),
        (start(model="sentiment", top_k=0), "INVALID_ARGUMENT", "options.top_k"),
        (start(model="sentiment", activation=99), "INVALID_ARGUMENT", "options.activation"),
        (start(model="sentiment", window_overlap_tokens=4), "INVALID_ARGUMENT", "options.window_overlap_tokens"),
        (start(model="sentiment", window_overlap_tokens=-1), "INVALID_ARGUMENT", "options.window_overlap_tokens"),
        (
            start(model="sentiment", window_overlap_tokens=1, truncate=True),
            "INVALID_ARGUMENT",
            "options.window_overlap_tokens",
        ),
        (start(model="nobody"), "NOT_FOUND", "model"),
        (start(model="embed"), "FAILED_PRECONDITION", "model"),
        (start(model="chat"), "FAILED_PRECONDITION", "model"),
    ],
)
async def test_wrong_options_end_the_stream(
    service: Service, request_: pb.ClassifyStreamRequest, code: str, field: str
) -> None:
    call = service.open(request_)
    await call.send_all()
    found, message = await call.failure()
    assert (found.name, message.split(":")[0]) == (code, field)
    assert service.triton.requests == []


async def test_a_stream_without_any_message_lacks_its_options(service: Service) -> None:
    call = service.open()
    await call.end()
    assert (await call.failure())[0] is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("broken", "field"), [(start(ITEM(text="two")), "options"), (more(*[ITEM(text="one")] * 10_001), "items")]
)
async def test_a_message_against_the_protocol_ends_the_stream_after_the_answers_before_it(
    service: Service, broken: pb.ClassifyStreamRequest, field: str
) -> None:
    call = service.open(start(ITEM(text="one"), ITEM(text="two")), broken)
    await call.send_all()
    code, message = await call.failure()
    assert (code, message.split(":")[0]) == (grpc.StatusCode.INVALID_ARGUMENT, field)
    assert scores(call.read) == [14.0, 15.0]


async def test_bytes_that_are_no_message_end_the_stream(service: Service) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.server.endpoints.port}") as channel:
        raw = channel.stream_stream(f"/{SERVICE_NAME}/ClassifyStream")()
        await raw.write(start(ITEM(text="one")).SerializeToString())
        await raw.write(b"\xff\xff\xff")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in raw:
                pass
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert rpc_status.from_call(caught.value).code == 3


# A text of a few tokens and many bytes: what transports buffer is reached soon.
BULKY = ITEM(text="one" + " " * 50_000)
BULKY_MESSAGES = 4_000


async def pushed(call: Call, service: Service) -> tuple["asyncio.Task[None]", list[int]]:
    """Sends without end until nothing moves any more; the sender, and the count of messages that it has sent."""
    sent = [0]

    async def feed() -> None:
        for _ in range(BULKY_MESSAGES):
            await call.send(more(BULKY))
            sent[0] += 1

    feeder = asyncio.create_task(feed())
    before = (-1, -1)
    while (sent[0], len(service.triton.requests)) != before:
        before = (sent[0], len(service.triton.requests))
        await asyncio.sleep(0.3)
    return feeder, sent


def computed(service: Service) -> int:
    return sum(len(seen.inputs["sequence_lengths"]) for seen in service.triton.requests)


@pytest.mark.parametrize("bound", [{"max_stream_items": 20}, {"max_stream_bytes": 1_000_000}])
async def test_what_waits_is_bounded_and_reading_stops(serve: Callable[..., Any], bound: dict[str, int]) -> None:
    async with serve(max_pack_tokens=30, **bound) as service:
        release = asyncio.Event()

        async def hold(request: Any) -> Any:
            await release.wait()
            return answer(request)

        service.triton.infer = hold
        call = service.open(start())
        await call.send_all()
        feeder, sent = await pushed(call, service)
        assert sent[0] < BULKY_MESSAGES
        assert 1 <= computed(service) <= 40  # what four packs hold
        release.set()
        while len(call.read) < 500:
            await call.next()
        feeder.cancel()
        call.call.cancel()


async def test_a_client_that_does_not_read_stops_the_stream_too(serve: Callable[..., Any]) -> None:
    async with serve(max_stream_items=50) as service:
        call = service.open(start())
        await call.send_all()
        feeder = asyncio.create_task(_feed_ids(call, "i" * 256))  # answers are as large as they can be
        before = -1
        while computed(service) != before:
            before = computed(service)
            await asyncio.sleep(0.5)
        assert before < 100_000
        feeder.cancel()
        call.call.cancel()


async def _feed_ids(call: Call, item_id: str) -> None:
    for _ in range(1_000):
        await call.send(more(*[ITEM(id=item_id, text="one")] * 100))


async def test_a_client_that_leaves_gives_everything_back(serve: Callable[..., Any]) -> None:
    async with serve(max_inflight_requests=1, max_pack_tokens=30) as service:
        release, full = asyncio.Event(), asyncio.Event()

        async def hold(request: Any) -> Any:
            if len(service.triton.requests) == 4:
                full.set()
            await release.wait()
            return answer(request)

        service.triton.infer = hold
        call = service.open(start(*[ITEM(text="one")] * 1_000))
        await call.send_all()
        await full.wait()
        second = service.open(start(ITEM(text="one")))
        await second.send_all()
        assert (await second.failure())[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
        call.call.cancel()
        release.set()
        service.triton.infer = answer
        while True:  # the service learns of it soon
            try:
                assert len(await service.answers(start(ITEM(text="one")))) == 1
                break
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert sum("stop" not in seen.parameters for seen in service.triton.requests) == 5


async def test_a_deadline_ends_the_stream(service: Service) -> None:
    call = service.stub.ClassifyStream(timeout=0.3)
    await call.write(start(ITEM(text="one")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call:
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_shutdown_answers_what_the_engine_has_and_says_so(serve: Callable[..., Any]) -> None:
    async with serve(max_pack_tokens=30, max_parallel_packs=1) as service:
        arrived, release = asyncio.Event(), asyncio.Event()

        async def hold(request: Any) -> Any:
            arrived.set()
            await release.wait()
            return answer(request)

        service.triton.infer = hold
        call = service.open(start(*[ITEM(text="one")] * 500))
        await call.send_all()
        await arrived.wait()
        stopping = asyncio.create_task(service.server.stop(grace_ms=10_000))
        await service.server._drain.stopping.wait()
        release.set()
        code, _ = await call.failure()
        assert code is grpc.StatusCode.UNAVAILABLE
        assert [result.index for result in call.read] == list(range(10))
        async with asyncio.timeout(5):  # nothing waits for the end of the grace
            await stopping


async def test_a_stream_whose_items_are_all_in_the_engine_ends_well_in_a_shutdown(serve: Callable[..., Any]) -> None:
    async with serve() as service:
        arrived, release = asyncio.Event(), asyncio.Event()

        async def hold(request: Any) -> Any:
            arrived.set()
            await release.wait()
            return answer(request)

        service.triton.infer = hold
        call = service.open(start(ITEM(text="one")))
        await call.send_all()
        await call.end()
        await arrived.wait()
        stopping = asyncio.create_task(service.server.stop(grace_ms=10_000))
        await service.server._drain.stopping.wait()
        release.set()
        assert scores(await call.rest()) == [14.0]
        await stopping


async def test_an_engine_that_fails_ends_the_stream_after_the_answers_before(serve: Callable[..., Any]) -> None:
    async with serve(max_pack_tokens=30, max_parallel_packs=1) as service:
        failure = (grpc.StatusCode.INTERNAL, "out of luck")
        service.triton.refuse = lambda _: failure if len(service.triton.requests) == 3 else None
        call = service.open(start(*[ITEM(text="one")] * 100))
        await call.send_all()
        code, _ = await call.failure()
        assert code is grpc.StatusCode.INTERNAL
        assert [result.index for result in call.read] == list(range(20))


async def test_an_engine_that_is_full_for_a_moment_is_asked_again(service: Service) -> None:
    full = (grpc.StatusCode.UNAVAILABLE, "exceeds maximum queue size")
    service.triton.refuse = lambda _: full if len(service.triton.requests) <= 2 else None
    assert scores(await service.answers(start(ITEM(text="one")))) == [14.0]


async def test_an_item_that_the_engine_refuses_fails_alone(service: Service) -> None:
    def refuse_fives(request: Any) -> tuple[grpc.StatusCode, str] | None:
        has_five = 15 in tensors_of(request)["input_ids"]
        return (grpc.StatusCode.INVALID_ARGUMENT, "[INVALID_ARGUMENT] input_ids: no fives") if has_five else None

    service.triton.refuse = refuse_fives
    results = await service.answers(start(ITEM(text="one"), ITEM(text="five"), ITEM(text="two")))
    assert scores(results) == [14.0, "input_ids", 15.0]


async def test_a_dead_engine_makes_the_stream_unavailable(service: Service) -> None:
    call = service.open(start(ITEM(text="one")))
    await call.send_all()
    await call.next()
    await service.triton.die()
    await call.send(more(ITEM(text="one")))
    assert (await call.failure())[0] is grpc.StatusCode.UNAVAILABLE
