"""TLS and mutual TLS, from outside; certificates that expire, are replaced, and do not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
import urllib.request
from datetime import timedelta
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from services.common.server import RunningServer, StartError, start_server
from services.common.settings import TokenizationSettings
from services.tokenization.app import build
from tests.support.certificates import Authority, Pair
from tests.support.generation_stack import failure_of
from tests.support.running_service import running
from tests.support.stack import free_ports
from tests.unit.services.common.access.conftest import TenantsFile

OK, UNAVAILABLE = grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE
EXPIRED = {"begins": -timedelta(days=2), "ends": -timedelta(days=1)}


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def secured(settings: TokenizationSettings, tmp_path: Path, authority: Authority) -> TokenizationSettings:
    """Speaks TLS with a certificate of `authority`."""
    certificate, key = authority.sign("localhost").write(tmp_path, "server")
    return dataclasses.replace(settings, tls_certificate=str(certificate), tls_private_key=str(key))


@pytest.fixture
def mutual(secured: TokenizationSettings, tmp_path: Path, authority: Authority) -> TokenizationSettings:
    """Wants a certificate of `authority` from clients, too."""
    (tmp_path / "clients.crt").write_bytes(authority.certificate)
    return dataclasses.replace(secured, tls_client_ca=str(tmp_path / "clients.crt"))


async def code_of_call(server: RunningServer, credentials: grpc.ChannelCredentials | None) -> grpc.StatusCode:
    """How one call on a new connection ends."""
    address = f"127.0.0.1:{server.endpoints.port}"
    # Else connections of one process to one address with the same options would be shared.
    options = (("grpc.use_local_subchannel_pool", 1),)
    channel = (
        grpc.aio.insecure_channel(address, options=options)
        if credentials is None
        else grpc.aio.secure_channel(address, credentials, options=options)
    )
    async with channel:
        stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        return await stub.Tokenize(pb.TokenizeRequest(model="embed", texts=["hello"]), timeout=10).code()


async def until(server: RunningServer, credentials: grpc.ChannelCredentials, code: grpc.StatusCode) -> None:
    """Returns once calls on new connections end so."""
    async with asyncio.timeout(10):
        while await code_of_call(server, credentials) is not code:
            pass


async def metrics_page(server: RunningServer, context: ssl.SSLContext | None = None) -> str:
    scheme = "http" if context is None else "https"
    url = f"{scheme}://localhost:{server.endpoints.metrics_port}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, context=context, timeout=10) as answer:
            text: str = answer.read().decode()
            return text

    return await asyncio.to_thread(read)


async def wait_for_metric(server: RunningServer, line: str) -> None:
    async with asyncio.timeout(10):
        while line not in await metrics_page(server):
            pass


async def test_only_tls_is_spoken(secured: TokenizationSettings, authority: Authority) -> None:
    async with running(build(secured), secured) as (server, _):
        assert await code_of_call(server, authority.credentials()) is OK
        assert await code_of_call(server, None) is UNAVAILABLE
        assert await code_of_call(server, Authority().credentials()) is UNAVAILABLE


async def test_mutual_tls_takes_certificates_of_its_authority_only(
    mutual: TokenizationSettings, authority: Authority
) -> None:
    stranger = Authority().sign("client")
    async with running(build(mutual), mutual) as (server, _):
        assert await code_of_call(server, authority.credentials(authority.sign("client"))) is OK
        for pair in (None, stranger, authority.sign("client", **EXPIRED)):
            assert await code_of_call(server, authority.credentials(pair)) is UNAVAILABLE


async def test_a_replaced_certificate_is_shown_without_a_restart_and_live_calls_go_on(
    secured: TokenizationSettings, tmp_path: Path, authority: Authority
) -> None:
    successor = Authority("successor")
    async with running(build(secured), secured) as (server, _):
        address = f"127.0.0.1:{server.endpoints.port}"
        async with grpc.aio.secure_channel(address, authority.credentials()) as old:
            stub = tokenization_pb2_grpc.TokenizationServiceStub(old)
            request = pb.TokenizeRequest(model="embed", texts=["hello"])
            await stub.Tokenize(request)
            successor.sign("localhost", ends=timedelta(days=30)).write(tmp_path, "server")
            await until(server, successor.credentials(), OK)
            assert await code_of_call(server, authority.credentials()) is UNAVAILABLE
            await stub.Tokenize(request)  # on the connection from before
        assert 'naiad_file_reloads_total{file="certificate",outcome="accepted"}' in await metrics_page(server)


async def test_replaced_authorities_of_clients_count_at_once(
    mutual: TokenizationSettings, tmp_path: Path, authority: Authority
) -> None:
    successor = Authority("successor")
    of_old, of_new = authority.sign("client"), successor.sign("client")
    async with running(build(mutual), mutual) as (server, _):
        (tmp_path / "clients.crt").write_bytes(successor.certificate)
        await until(server, authority.credentials(of_new), OK)
        assert await code_of_call(server, authority.credentials(of_old)) is UNAVAILABLE


@pytest.mark.parametrize("kind", ["garbage", "expired", "other key", "missing"])
async def test_a_bad_replacement_leaves_the_old_certificate_in_use(
    secured: TokenizationSettings,
    tmp_path: Path,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    async with running(build(secured), secured) as (server, _):
        certificate = tmp_path / "server.crt"
        if kind == "missing":
            certificate.unlink()
        else:
            bad = {
                "garbage": b"-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n",
                "expired": authority.sign("localhost", **EXPIRED).certificate,
                "other key": authority.sign("localhost").certificate,
            }[kind]
            certificate.write_bytes(bad)
        await wait_for_metric(server, 'naiad_file_reloads_total{file="certificate",outcome="rejected"}')
        assert await code_of_call(server, authority.credentials()) is OK
        assert "changed certificate is not used" in caplog.text
        # And the way back is open.
        authority.sign("localhost").write(tmp_path, "server")
        await wait_for_metric(server, 'naiad_file_reloads_total{file="certificate",outcome="accepted"}')
        assert await code_of_call(server, authority.credentials()) is OK


async def test_the_end_of_the_certificate_is_a_metric(
    secured: TokenizationSettings, tmp_path: Path, authority: Authority
) -> None:
    def expiry(page: str) -> float:
        (line,) = [line for line in page.splitlines() if line.startswith("naiad_tls_certificate_expiry_seconds ")]
        return float(line.split()[1])

    async with running(build(secured), secured) as (server, _):
        before = expiry(await metrics_page(server))
        authority.sign("localhost", ends=timedelta(days=31)).write(tmp_path, "server")
        async with asyncio.timeout(10):
            while (after := expiry(await metrics_page(server))) == before:
                pass
    assert abs(after - before - 30 * 86_400) < 60


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"tls_private_key": "off"}, "NAIAD_TLS_CERTIFICATE is set, but NAIAD_TLS_PRIVATE_KEY is not"),
        ({"tls_certificate": "off"}, "NAIAD_TLS_PRIVATE_KEY is set, but NAIAD_TLS_CERTIFICATE is not"),
        ({"tls_certificate": "off", "tls_private_key": "off", "metrics_tls": True}, "NAIAD_METRICS_TLS needs"),
        ({"tls_certificate": "{tmp}/none.crt"}, "none.crt cannot be read: No such file or directory"),
        ({"tls_certificate": "{tmp}/server.key"}, "server.key is not a certificate in PEM"),
        ({"tls_private_key": "{tmp}/server.crt"}, "server.crt is not a private key in PEM"),
        ({"tls_private_key": "{tmp}/other.key"}, "other.key is not the key of"),
        ({"tls_certificate": "{tmp}/old.crt", "tls_private_key": "{tmp}/old.key"}, "old.crt expired at"),
        ({"tls_certificate": "{tmp}/new.crt", "tls_private_key": "{tmp}/new.key"}, "new.crt is not valid before"),
        ({"tls_client_ca": "{tmp}/server.key"}, "server.key is not a certificate in PEM"),
    ],
)
async def test_what_does_not_fit_keeps_the_service_from_starting_with_one_line(
    secured: TokenizationSettings,
    tmp_path: Path,
    authority: Authority,
    change: dict[str, str | bool],
    complaint: str,
) -> None:
    authority.sign("other").write(tmp_path, "other")
    authority.sign("localhost", **EXPIRED).write(tmp_path, "old")
    authority.sign("localhost", begins=timedelta(days=1), ends=timedelta(days=2)).write(tmp_path, "new")
    changed = {key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in change.items()}
    wrong = dataclasses.replace(secured, **changed)  # type: ignore[arg-type]
    with pytest.raises(StartError) as caught:
        await start_server(build(wrong), wrong, 0, 0)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_metrics_speak_tls_with_the_newest_certificate(
    secured: TokenizationSettings, tmp_path: Path, authority: Authority
) -> None:
    def trusts(pem: bytes) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=pem.decode())
        # Authorities of a test lack what only real ones need.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        return context

    successor = Authority("successor")
    settings = dataclasses.replace(secured, metrics_tls=True)
    async with running(build(settings), settings) as (server, _):
        # Whoever connects and says nothing keeps nobody else waiting.
        _, silent = await asyncio.open_connection("127.0.0.1", server.endpoints.metrics_port)
        assert "naiad_rpc_in_flight" in await metrics_page(server, trusts(authority.certificate))
        with pytest.raises(OSError, match=r"."):
            await metrics_page(server)
        successor.sign("localhost").write(tmp_path, "server")
        await until(server, successor.credentials(), OK)
        assert "naiad_rpc_in_flight" in await metrics_page(server, trusts(successor.certificate))
        silent.close()


async def test_probes_without_tls_get_health_and_nothing_else(mutual: TokenizationSettings) -> None:
    (port,) = free_ports(1)
    settings = dataclasses.replace(mutual, health_port=port)
    async with (
        running(build(settings), settings),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        call = tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(pb.TokenizeRequest(), timeout=10)
        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_names_in_certificates_stand_for_tenants(
    mutual: TokenizationSettings, authority: Authority, tenants_file: TenantsFile
) -> None:
    tenants_file.write(
        {
            "search": {"certificate_names": ["search.example", "by-common-name"]},
            "other": {"certificate_names": ["other.example"], "models": ["other"], "tokens": ["naiad_t"]},
        }
    )
    settings = dataclasses.replace(mutual, tenants_file=str(tenants_file.path))

    def signed(common_name: str, *names: str) -> Pair:
        return authority.sign(common_name, names=names)

    async with running(build(settings), settings) as (server, _):

        async def reason(pair: Pair, *authorization: str) -> str:
            address = f"127.0.0.1:{server.endpoints.port}"
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.secure_channel(address, authority.credentials(pair), options=options) as channel:
                stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
                metadata = tuple(("authorization", value) for value in authorization)
                call = stub.Tokenize(pb.TokenizeRequest(model="embed", texts=["hello"]), metadata=metadata, timeout=10)
                return "OK" if await call.code() is OK else (await failure_of(call)).reason

        assert await reason(signed("by-common-name")) == "OK"
        assert await reason(signed("x", "search.example", "unknown.example")) == "OK"
        assert await reason(signed("x", "other.example")) == "PERMISSION_DENIED"
        assert await reason(signed("unknown")) == "UNAUTHENTICATED"
        # With alternative names, the common name counts for nothing; names of two tenants are nobody's.
        assert await reason(signed("by-common-name", "unknown.example")) == "UNAUTHENTICATED"
        assert await reason(signed("x", "search.example", "other.example")) == "UNAUTHENTICATED"
        # A token goes before the certificate, for good or ill.
        assert await reason(signed("x", "search.example"), "Bearer naiad_t") == "PERMISSION_DENIED"
        assert await reason(signed("x", "search.example"), "Bearer wrong") == "UNAUTHENTICATED"
