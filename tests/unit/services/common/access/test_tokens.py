"""Bearer tokens, from outside: who gets in, who does not, and what a changed file does to a running service."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import urllib.request
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from services.common.server import StartError, start_server
from services.common.settings import TokenizationSettings
from services.common.tenant_file import digest_of
from services.tokenization.app import build
from tests.support.generation_stack import failure_of
from tests.support.running_service import running
from tests.unit.services.common.access.conftest import TenantsFile

TOKEN = "naiad_search-token"
OTHER = "naiad_other-token"
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED
DENIED = grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def guarded(settings: TokenizationSettings, tenants_file: TenantsFile) -> TokenizationSettings:
    """Asks for tokens: `search` may do everything, `other` little."""
    tenants_file.write(
        {
            "search": {"tokens": [TOKEN]},
            "other": {"tokens": [OTHER], "models": ["other"]},
            "writer": {"tokens": ["naiad_writer"], "services": ["generation"]},
        }
    )
    return dataclasses.replace(settings, tenants_file=str(tenants_file.path))


def tokenize(
    channel: grpc.aio.Channel, *authorization: str, model: str = "embed", texts: tuple[str, ...] = ("hello",)
) -> Awaitable[pb.TokenizeResponse]:
    stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
    metadata = tuple(("authorization", value) for value in authorization)
    return stub.Tokenize(pb.TokenizeRequest(model=model, texts=texts), metadata=metadata, timeout=10)


async def until_code(call: Callable[[], Awaitable[Any]], code: grpc.StatusCode) -> None:
    """Repeats a call until it ends so: a file was replaced and the service will see it soon."""
    async with asyncio.timeout(10):
        while True:
            try:
                await call()
                seen = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                seen = error.code()
            if seen is code:
                return


async def test_only_a_known_token_gets_in(guarded: TokenizationSettings) -> None:
    async with running(build(guarded), guarded) as (_, channel):
        for authorization in (
            (),
            ("",),
            ("Bearer",),
            (TOKEN,),
            (f"Basic {TOKEN}",),
            ("Bearer naiad_unknown",),
            (f"Bearer {TOKEN}x",),
            (f"Bearer {digest_of(TOKEN).hex()}",),
            (f"Bearer {TOKEN} {TOKEN}",),
            ("Bearer " + "x" * 1000,),
            (f"Bearer {TOKEN}", f"Bearer {OTHER}"),
        ):
            failure = await failure_of(tokenize(channel, *authorization))
            assert (failure.code, failure.reason) == (UNAUTHENTICATED, "UNAUTHENTICATED"), authorization
        for authorization in (f"Bearer {TOKEN}", f"bearer {TOKEN}"):
            assert len((await tokenize(channel, authorization)).results) == 1


async def test_a_refusal_does_not_wait_for_the_body(guarded: TokenizationSettings) -> None:
    async with running(build(guarded), guarded) as (_, channel):
        # A call that never sends its message would wait for ever if the message were read first.
        call = channel.stream_unary("/naiad.v1.TokenizationService/Tokenize")(timeout=10)
        assert await call.code() is UNAUTHENTICATED


async def test_each_kind_of_method_is_guarded(guarded: TokenizationSettings) -> None:
    async with running(build(guarded), guarded) as (_, channel):
        service = pb.DESCRIPTOR.services_by_name["TokenizationService"]
        for method in service.methods:
            call = channel.unary_unary(f"/{service.full_name}/{method.name}")(b"", timeout=10)
            assert await call.code() is UNAUTHENTICATED, method.name


async def test_an_expired_token_is_refused(settings: TokenizationSettings, tenants_file: TenantsFile) -> None:
    entry = {"sha256": digest_of(TOKEN).hex()}
    settings = dataclasses.replace(settings, tenants_file=str(tenants_file.path))
    tenants_file.write({"search": {"tokens": [{**entry, "expires": "2020-01-01T00:00:00Z"}]}})
    async with running(build(settings), settings) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError, match="the token has expired") as caught:
            await tokenize(channel, f"Bearer {TOKEN}")
        assert caught.value.code() is UNAUTHENTICATED
        tenants_file.write({"search": {"tokens": [{**entry, "expires": "2999-01-01T00:00:00+02:00"}]}})
        await until_code(lambda: tokenize(channel, f"Bearer {TOKEN}"), grpc.StatusCode.OK)


async def test_services_and_models_of_a_tenant(guarded: TokenizationSettings) -> None:
    async with running(build(guarded), guarded) as (_, channel):
        bearer = f"Bearer {OTHER}"
        assert (await tokenize(channel, bearer, model="other")).results
        # What there is and what there is not look the same to whoever may use neither.
        for model in ("embed", "no such model"):
            failure = await failure_of(tokenize(channel, bearer, model=model))
            assert (failure.code, failure.reason) == (DENIED, "PERMISSION_DENIED")
        assert (await failure_of(tokenize(channel, "Bearer naiad_writer"))).code is DENIED
        stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        request = pb.TokenizationServiceListModelsRequest()
        listed = await stub.ListModels(request, metadata=(("authorization", bearer),))
        assert [model.name for model in listed.models] == ["other"]


async def test_health_is_open_and_reflection_needs_a_token(guarded: TokenizationSettings) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    async def services(channel: grpc.aio.Channel, *metadata: tuple[str, str]) -> int:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        answers = [a async for a in stub.ServerReflectionInfo(iter([question]), metadata=metadata, timeout=10)]
        return len(answers[0].list_services_response.service)

    async with running(build(guarded), guarded) as (_, channel):
        await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert await services(channel, ("authorization", f"Bearer {TOKEN}")) == 3
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services(channel)
        assert caught.value.code() is UNAUTHENTICATED
    guarded = dataclasses.replace(guarded, reflection="open")
    async with running(build(guarded), guarded) as (_, channel):
        assert await services(channel) == 3
    guarded = dataclasses.replace(guarded, reflection="off")
    async with running(build(guarded), guarded) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services(channel, ("authorization", f"Bearer {TOKEN}"))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_changed_file_counts_at_once_and_a_broken_one_not_at_all(
    guarded: TokenizationSettings, tenants_file: TenantsFile, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(build(guarded), guarded) as (server, channel):
        url = f"http://127.0.0.1:{server.endpoints.metrics_port}/metrics"

        async def wait_for(line: str) -> None:
            async with asyncio.timeout(10):
                while line not in await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode()):
                    pass

        tenants_file.write({"search": {"tokens": ["naiad_next"]}})
        await until_code(lambda: tokenize(channel, f"Bearer {TOKEN}"), UNAUTHENTICATED)
        await tokenize(channel, "Bearer naiad_next")
        tenants_file.write_text('{"tenants": ')
        await wait_for('naiad_file_reloads_total{file="tenants",outcome="rejected"} 1.0')
        await tokenize(channel, "Bearer naiad_next")
        tenants_file.path.unlink()
        await wait_for('naiad_file_reloads_total{file="tenants",outcome="rejected"} 2.0')
        await tokenize(channel, "Bearer naiad_next")
        tenants_file.write({"search": {"tokens": [TOKEN]}})
        await until_code(lambda: tokenize(channel, f"Bearer {TOKEN}"), grpc.StatusCode.OK)
        await wait_for('naiad_file_reloads_total{file="tenants",outcome="accepted"} 2.0')
    assert "is not JSON" in str([getattr(record, "fields", "") for record in caplog.records])


async def test_log_lines_and_metrics_name_the_tenant_and_never_the_token(
    guarded: TokenizationSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with running(build(guarded), guarded) as (server, channel):
            await tokenize(channel, f"Bearer {TOKEN}")
            await failure_of(tokenize(channel, "Bearer naiad_wrong-secret"))
            url = f"http://127.0.0.1:{server.endpoints.metrics_port}/metrics"
            page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    lines = [record.fields for record in caplog.records if record.name == "naiad.rpc"]  # type: ignore[attr-defined]
    assert [line.get("tenant") for line in lines] == ["search", None]
    assert 'naiad_tenant_requests_total{code="OK",tenant="search"} 1.0' in page
    assert 'naiad_requests_rejected_total{reason="UNAUTHENTICATED"} 1.0' in page
    everything = page + str([(record.getMessage(), record.__dict__) for record in caplog.records])
    assert TOKEN not in everything
    assert "wrong-secret" not in everything


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is not JSON"),
        ("[]", "the file is not an object"),
        ('{"tenant": {}}', "'tenant' is none of tenants"),
        ('{"tenants": {"A b": {}}}', "tenant 'A b': a name is"),
        ('{"tenants": {"a": {"wieght": 1}}}', "'wieght' is none of"),
        ('{"tenants": {"a": {"weight": 0}}}', "tenant 'a': weight: is not a number over 0"),
        ('{"tenants": {"a": {"weight": NaN}}}', "weight: is not a number over 0"),
        ('{"tenants": {"a": {"max_inflight_tokens": true}}}', "max_inflight_tokens: is not a whole number from 1"),
        ('{"tenants": {"a": {"services": ["chat"]}}}', "services: each is one of tokenization"),
        ('{"tenants": {"a": {"models": "chat"}}}', "models: is not a list of names"),
        ('{"tenants": {"a": {"tokens": [{}]}}}', "tokens[0]: sha256 is missing"),
        ('{"tenants": {"a": {"tokens": [{"sha256": "naiad_x"}]}}}', "sha256: is not 64 hexadecimal digits"),
        (
            '{"tenants": {"a": {"tokens": [{"sha256": "' + "0" * 64 + '", "expires": "2027-01-01"}]}}}',
            "expires: is not a time with its zone",
        ),
        ('{"tenants": {"a": {"tokens": [' + ", ".join(['{"sha256": "' + "0" * 64 + '"}'] * 2) + "]}}}", "twice"),
        ('{"tenants": {"a": {}, "a": {}}}', "a key twice"),
        ('{"tenants": {"a": {"certificate_names": ["x"]}, "b": {"certificate_names": ["x"]}}}', "two tenants"),
        ("[" * 100_000, "is not JSON"),
    ],
)
async def test_a_wrong_file_keeps_the_service_from_starting_with_one_line(
    settings: TokenizationSettings, tenants_file: TenantsFile, text: str, complaint: str
) -> None:
    tenants_file.write_text(text)
    settings = dataclasses.replace(settings, tenants_file=str(tenants_file.path))
    with pytest.raises(StartError) as caught:
        await start_server(build(settings), settings, 0, 0)
    assert complaint in str(caught.value)
    assert str(tenants_file.path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "naiad_x" not in str(caught.value)


async def test_tokens_in_the_clear_need_to_be_asked_for(guarded: TokenizationSettings) -> None:
    anywhere = dataclasses.replace(guarded, host="0.0.0.0")
    with pytest.raises(StartError, match="tokens would cross the network in the clear"):
        await start_server(build(anywhere), anywhere, 0, 0)
    asked_for = dataclasses.replace(anywhere, allow_plaintext_tokens=True)
    async with running(build(asked_for), asked_for) as (_, channel):
        await tokenize(channel, f"Bearer {TOKEN}")


async def test_an_open_service_on_the_network_says_so_in_its_log(
    settings: TokenizationSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = dataclasses.replace(settings, host="0.0.0.0")
    async with running(build(settings), settings) as (_, channel):
        await tokenize(channel)
    assert "everyone who reaches this port may call" in caplog.text
