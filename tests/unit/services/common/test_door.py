import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import classification_pb2, generation_pb2, tokenization_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb
from prometheus_client import CollectorRegistry

from services.common.admission import Ticket
from services.common.door import Door, model_name
from services.common.settings import TokenizationSettings
from services.tokenization.app import build
from tests.support.running_service import running
from tests.support.small_models import bert_tokenizer, write_model

METHOD = "/naiad.v1.TokenizationService/Tokenize"
TEXTS = ["some text that is long enough to have some tokens"] * 10


@dataclass
class Service:
    """The tokenization service and its door."""

    door: Door
    channel: grpc.aio.Channel
    registry: CollectorRegistry

    @property
    def stub(self) -> tokenization_pb2_grpc.TokenizationServiceStub:
        return tokenization_pb2_grpc.TokenizationServiceStub(self.channel)

    def fill(self) -> Ticket:
        """Puts as much in flight as there is room for."""
        message = pb.TokenizeRequest(model="embed", texts=TEXTS).SerializeToString()
        ticket = self.door.enter(METHOD, message)
        assert ticket is not None
        return ticket


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    settings = TokenizationSettings(model_repository=tmp_path, max_inflight_tokens=100)
    app = build(settings)
    assert app.door is not None
    async with running(app, settings) as (_, channel):
        yield Service(app.door, channel, app.metrics.registry)


@pytest.mark.parametrize(
    "request_class",
    [
        pb.TokenizeRequest, pb.DetokenizeRequest, pb.CountTokensRequest, pb.ApplyChatTemplateRequest,
        generation_pb2.GenerateRequest, generation_pb2.GenerateStreamRequest, generation_pb2.ScoreRequest,
        classification_pb2.ClassifyRequest, classification_pb2.ClassifyTokensRequest, classification_pb2.EmbedRequest,
        classification_pb2.RerankRequest, classification_pb2.ClassifyZeroShotRequest, classification_pb2.ExplainRequest,
    ],
)  # fmt: skip
def test_the_model_of_every_call_is_known_without_parsing_it(request_class: type) -> None:
    request = request_class(model="chat")
    assert model_name(request.SerializeToString()) == "chat"


@pytest.mark.parametrize("message", [b"", b"\n", b"\x12\x04chat", b"\n\xff\x01" + b"x" * 255, b"garbage"])
def test_other_bytes_name_no_model(message: bytes) -> None:
    assert model_name(message) == ""
    assert model_name(b"\n\x08chat") == "chat"  # cut short: harmless, since no such message can be parsed


async def test_a_refused_call_is_not_even_parsed(service: Service) -> None:
    ticket = service.fill()
    tokenize = service.channel.unary_unary(METHOD)
    for message in (b"\n\x05embed" + b"\xff" * 10, b"\xff" * 10):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tokenize(message, metadata=(("x-request-id", "id-1"),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        trailers = dict(caught.value.trailing_metadata() or ())
        assert int(trailers["grpc-retry-pushback-ms"]) > 0
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(info) and status.details[1].Unpack(retry)
        assert (info.reason, info.metadata["request_id"]) == ("OVERLOADED", "id-1")
        assert retry.retry_delay.ToMilliseconds() == int(trailers["grpc-retry-pushback-ms"])
    ticket.release()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await tokenize(b"\xff" * 10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert len((await service.stub.Tokenize(pb.TokenizeRequest(model="embed", texts=TEXTS))).results) == len(TEXTS)


async def test_calls_give_their_room_back_however_they_end(service: Service) -> None:
    for _ in range(20):
        await service.stub.Tokenize(pb.TokenizeRequest(model="embed", texts=TEXTS))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.Tokenize(pb.TokenizeRequest(model="none", texts=TEXTS))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    service.fill().release()


async def test_what_is_in_flight_and_its_limit_are_metrics(service: Service) -> None:
    assert service.registry.get_sample_value("naiad_admission_limit_tokens", {"model": "embed"}) is None
    ticket = service.fill()
    values = [
        service.registry.get_sample_value(f"naiad_admission_{name}_tokens", {"model": "embed"})
        for name in ("inflight", "limit")
    ]
    assert values == [ticket.tokens, 100]
    ticket.release()
    assert service.registry.get_sample_value("naiad_admission_inflight_tokens", {"model": "embed"}) == 0


async def test_models_can_be_listed_under_any_load(service: Service) -> None:
    ticket = service.fill()
    await service.stub.ListModels(pb.TokenizationServiceListModelsRequest())
    ticket.release()


async def test_many_refusals_are_one_log_line(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    ticket = service.fill()
    written = asyncio.Event()

    class Waker(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.set()

    logger = logging.getLogger("naiad.rpc")
    logger.addHandler(waker := Waker())
    try:
        for _ in range(10):
            with pytest.raises(grpc.aio.AioRpcError):
                await service.stub.Tokenize(pb.TokenizeRequest(model="embed", texts=TEXTS))
        async with asyncio.timeout(10):
            await written.wait()
    finally:
        logger.removeHandler(waker)
        ticket.release()
    (record,) = [record for record in caplog.records if record.name == "naiad.rpc"]
    assert record.fields == {METHOD: 10}  # type: ignore[attr-defined]
