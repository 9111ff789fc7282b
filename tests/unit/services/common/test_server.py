import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from services.common.call import request_id_or_new
from services.common.health import LIVENESS
from services.common.logs import JsonFormatter
from services.common.server import StartError, start_server
from services.common.settings import TokenizationSettings
from services.tokenization.app import SERVICE_NAME, build
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import bert_tokenizer, write_model

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def settings(tmp_path: Path) -> TokenizationSettings:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    return TokenizationSettings(model_repository=tmp_path)


def request() -> pb.TokenizeRequest:
    return pb.TokenizeRequest(model="embed", texts=["hello"])


async def test_a_valid_request_id_comes_back_and_a_bad_one_is_replaced(settings: TokenizationSettings) -> None:
    async with running(build(settings), settings) as (_, channel):
        stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        for given, kept in (("abc-1", True), ("x" * 65, False), ("a b", False)):
            call = stub.Tokenize(request(), metadata=(("x-request-id", given),))
            await call
            returned = dict(await call.trailing_metadata())["x-request-id"]
            assert (returned == given) is kept


def test_request_ids_are_unique_when_none_is_given() -> None:
    assert request_id_or_new(None) != request_id_or_new(None)


async def test_an_unexpected_exception_is_internal_with_the_request_id_only(
    settings: TokenizationSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.tokenization.logic.TokenizationLogic.tokenize", lambda *_: 1 / 0)
    async with running(build(settings), settings) as (_, channel):
        call = tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(
            request(), metadata=(("x-request-id", "id-7"),)
        )
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error, request id id-7"
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.metadata["request_id"]) == ("INTERNAL", "id-7")
    assert "ZeroDivisionError" in caplog.text


async def test_the_log_shows_where_an_unexpected_exception_came_from_and_not_what_it_says(
    settings: TokenizationSettings, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def choke(*_: object) -> None:
        try:
            raise ValueError("cannot read 'a secret prompt'")
        except ValueError as error:
            raise RuntimeError("a secret prompt") from error

    monkeypatch.setattr("services.tokenization.logic.TokenizationLogic.tokenize", choke)
    async with running(build(settings), settings) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError):
            await tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(request())
    lines = [JsonFormatter().format(record) for record in caplog.records]
    assert not any("secret" in line for line in lines)
    (shown,) = [line for line in map(json.loads, lines) if "traceback" in line]
    kinds = [entry for entry in shown["traceback"] if not entry.startswith(" ")]
    assert kinds == ["RuntimeError", "ValueError"]
    assert any("choke (" in entry and "test_server.py:" in entry for entry in shown["traceback"])


async def test_each_call_is_one_log_line_without_its_content(
    settings: TokenizationSettings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "naiad.rpc"):
        async with running(build(settings), settings) as (_, channel):
            await tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(
                request(), metadata=(("x-request-id", "id-8"),)
            )
    (record,) = [record for record in caplog.records if record.name == "naiad.rpc"]
    line = json.loads(JsonFormatter().format(record))
    assert (line["request_id"], line["code"], line["model"], line["texts"]) == ("id-8", "OK", "embed", 1)
    assert line["method"] == "/naiad.v1.TokenizationService/Tokenize"
    assert "hello" not in json.dumps(line)


async def test_metrics_are_served_and_count_calls(settings: TokenizationSettings) -> None:
    async with running(build(settings), settings) as (server, channel):
        stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        await stub.Tokenize(request())
        with pytest.raises(grpc.aio.AioRpcError):
            await stub.Tokenize(pb.TokenizeRequest(model="none", texts=["x"]))
        url = f"http://127.0.0.1:{server.endpoints.metrics_port}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
    method = 'method="/naiad.v1.TokenizationService/Tokenize"'
    assert f'naiad_rpc_requests_total{{code="OK",{method}}} 1.0' in page
    assert f'naiad_rpc_requests_total{{code="NOT_FOUND",{method}}} 1.0' in page
    assert f"naiad_rpc_in_flight{{{method}}} 0.0" in page
    assert f'naiad_rpc_duration_seconds_bucket{{le="0.0005",{method}}}' in page
    assert 'naiad_requests_rejected_total{reason="MODEL_NOT_FOUND"} 1.0' in page
    assert 'naiad_tokenized_tokens_total{model="embed"} 3.0' in page


async def test_every_watcher_of_a_name_hears_of_a_change_after_another_has_left(settings: TokenizationSettings) -> None:
    app = build(settings)
    async with running(app, settings) as (_, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        leaving, staying = (stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE_NAME)) for _ in range(2))
        assert (await leaving.read()).status == (await staying.read()).status == SERVING
        leaving.cancel()
        await wait_for_health(channel, "", SERVING)
        app.health.set_serving(False)
        assert (await staying.read()).status == NOT_SERVING
        staying.cancel()


async def test_health_answers_for_each_name(settings: TokenizationSettings) -> None:
    app = build(settings)
    async with running(app, settings) as (_, channel):
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", SERVICE_NAME):
            assert (await stub.Check(health_pb2.HealthCheckRequest(service=name))).status == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service="other"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        watch = stub.Watch(health_pb2.HealthCheckRequest(service="other"))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_after_shut_down_the_service_is_never_serving_again_but_lives(settings: TokenizationSettings) -> None:
    app = build(settings)
    async with running(app, settings) as (_, channel):
        app.health.shut_down()
        app.health.set_serving(True)
        stub = health_pb2_grpc.HealthStub(channel)
        answers = [
            await stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", SERVICE_NAME, LIVENESS)
        ]
    assert [answer.status for answer in answers] == [NOT_SERVING, NOT_SERVING, SERVING]


async def test_a_removed_model_is_not_serving_and_the_others_are(settings: TokenizationSettings) -> None:
    write_model(settings.model_repository, "other", "embed", bert_tokenizer())
    async with running(build(settings), settings) as (_, channel):
        await wait_for_health(channel, f"{SERVICE_NAME}/embed", SERVING)
        shutil.rmtree(settings.model_repository / "embed")
        await wait_for_health(channel, f"{SERVICE_NAME}/embed", NOT_SERVING)
        for name in ("", SERVICE_NAME, f"{SERVICE_NAME}/other"):
            await wait_for_health(channel, name, SERVING)


async def test_reflection_lists_the_services(settings: TokenizationSettings) -> None:
    async with running(build(settings), settings) as (_, channel):
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
        call.cancel()
    names = {service.name for service in answer.list_services_response.service}
    assert {SERVICE_NAME, "grpc.health.v1.Health"} <= names


async def test_a_taken_port_is_one_clear_line(settings: TokenizationSettings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"cannot listen on 127.0.0.1:{port}: the port is in use"):
            await start_server(build(settings), settings, port, 0)
        with pytest.raises(StartError, match=f"cannot serve metrics on 127.0.0.1:{port}: Address already in use"):
            await start_server(build(settings), settings, 0, port)


async def test_a_message_over_the_limit_is_refused(settings: TokenizationSettings) -> None:
    async with running(build(settings), settings) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await tokenization_pb2_grpc.TokenizationServiceStub(channel).Tokenize(
                pb.TokenizeRequest(model="embed", texts=["x" * 1024 * 1024] * 5)
            )
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def start_process(tmp_path: Path, **environ: str) -> subprocess.Popen[str]:
    variables = {"NAIAD_MODEL_REPOSITORY": str(tmp_path), "NAIAD_TOKENIZATION_METRICS_PORT": "0", **environ}
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-m", "services.tokenization"],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], **variables},
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_says_where_it_listens_and_ends_cleanly(
    settings: TokenizationSettings, signal_number: signal.Signals
) -> None:
    process = start_process(settings.model_repository, NAIAD_TOKENIZATION_PORT="0")
    with process:
        assert process.stderr is not None
        line = json.loads(process.stderr.readline())
        assert line["message"] == "listening"
        assert line["port"] > 0
        process.send_signal(signal_number)
        _, rest = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(text)["message"] for text in rest.splitlines()] == ["draining", "stopped"]


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"NAIAD_TOKENIZATION_PORT": "-1"}, "naiad: NAIAD_TOKENIZATION_PORT='-1' is out of range (0 to 65535)\n"),
        ({"NAIAD_PORT": "1", "NAIAD_LOG_LEVEL": "error"}, "naiad: NAIAD_PORT is not a setting of naiad"),
        ({"NAIAD_TOKENIZATION_PORT": "taken"}, "naiad: cannot listen on 127.0.0.1:"),
    ],
)
def test_a_process_that_cannot_start_says_why_in_one_line(tmp_path: Path, environ: dict, message: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environ = {key: str(taken.getsockname()[1]) if value == "taken" else value for key, value in environ.items()}
        with start_process(tmp_path, **environ) as process:
            _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.startswith(message)
    assert errors.count("\n") == 1
