"""What a client's calls carry, and what it raises."""

import grpc
import pytest
from naiad.v1 import generation_pb2 as pb

from services import client
from services.common.errors import NaiadError, Reason, invalid_field
from services.common.status import STATUS_CODES, status_message
from tests.support.attempts import counting_server
from tests.unit.services.cli import fake_services
from tests.unit.services.cli.fake_services import Answers

NOBODY = "127.0.0.1:1"


def test_calls_have_a_deadline_a_request_id_and_the_token() -> None:
    with counting_server(lambda _: None) as (server, address):
        with client.connect(address, token="secret") as naiad:
            naiad.generate(model="chat", text="x")
            naiad.generation.Generate(pb.GenerateRequest(), timeout=5, metadata=(("x-request-id", "mine"),))
            list(naiad.stream(model="chat", text="x"))
        assert 50 < server.remaining_s[0] < 61
        assert server.remaining_s[1] < 6
        assert 500 < server.remaining_s[2] < 601
        assert {metadata["authorization"] for metadata in server.metadata} == {"Bearer secret"}
        assert len(server.metadata[0]["x-request-id"]) == 32
        assert server.metadata[1]["x-request-id"] == "mine"


async def test_the_same_with_asyncio() -> None:
    with counting_server(lambda _: None) as (server, address):
        async with client.connect_aio(address, token="secret") as naiad:
            await naiad.generate(model="chat", text="x")
            assert [event.WhichOneof("event") async for event in naiad.stream(model="chat", text="x")] == ["started"]
        assert 50 < server.remaining_s[0] < 61
        assert server.metadata[0]["authorization"] == "Bearer secret"
        assert server.metadata[0]["x-request-id"]


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_has_a_class_of_its_own_status(reason: Reason) -> None:
    error = client.error_of_status(status_message(NaiadError(reason, "why"), "id-1"))
    assert type(error) is not client.CallError
    assert (error.code(), error.reason, error.request_id) == (STATUS_CODES[reason], reason, "id-1")


def test_an_error_has_what_the_service_said() -> None:
    answers = Answers(failure=NaiadError(Reason.OVERLOADED, "full", retry_after_ms=1500))
    with fake_services.running(answers) as address, client.connect(address) as naiad:
        with pytest.raises(client.OverloadedError) as overloaded:
            naiad.embed(model="embed", texts=["east"])
        answers.failure = invalid_field("texts[0]", "is empty")
        with pytest.raises(client.InvalidFieldError) as invalid:
            list(naiad.stream(model="chat", text=""))
    assert (overloaded.value.retry_after_ms, overloaded.value.message) == (1500, "full")
    assert overloaded.value.request_id == "request-1"
    assert [violation.field for violation in invalid.value.field_violations] == ["texts[0]"]


async def test_an_asyncio_error_has_it_too() -> None:
    answers = Answers(failure=NaiadError(Reason.MODEL_NOT_FOUND, "no model x"))
    with fake_services.running(answers) as address:
        async with client.connect_aio(address) as naiad:
            with pytest.raises(client.ModelNotFoundError, match="no model x"):
                await naiad.embed(model="x", texts=["east"])
            with pytest.raises(client.ModelNotFoundError):
                async for _ in naiad.stream(model="x", text="y"):
                    pass
            with pytest.raises(client.ModelNotFoundError):
                await naiad.stream(model="x", text="y").read()


async def test_nobody_there_is_unavailable_without_a_reason() -> None:
    with client.connect(NOBODY) as naiad, pytest.raises(client.UnavailableError) as caught:
        naiad.generate(model="chat", text="x")
    assert (caught.value.reason, caught.value.code()) == (None, grpc.StatusCode.UNAVAILABLE)
    assert caught.value.request_id
    async with client.connect_aio(NOBODY) as naiad_aio:
        with pytest.raises(client.UnavailableError):
            await naiad_aio.generate(model="chat", text="x")


def test_half_a_client_certificate_is_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="go together"):
        client.connect(NOBODY, tls=client.Tls(certificate=tmp_path / "cert.pem"))
