"""Logs and traces of calls."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import tokenization_pb2 as pb
from naiad.v1 import tokenization_pb2_grpc

from services.common.logs import JsonFormatter
from services.common.observability import make_observability
from services.common.setting import SettingsError
from services.common.settings import TokenizationSettings
from services.tokenization.app import SERVICE_NAME, build
from tests.support.otlp_receiver import otlp_receiver
from tests.support.running_service import running
from tests.support.small_models import bert_tokenizer, write_model

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"
SECRET = "hello"
UNKNOWN_MODEL = "none"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    return tmp_path


def log_lines(caplog: pytest.LogCaptureFixture) -> list[dict]:
    return [json.loads(JsonFormatter().format(record)) for record in caplog.records if record.name == "naiad.rpc"]


async def tokenize(settings: TokenizationSettings, model: str, metadata: tuple[tuple[str, str], ...]) -> dict:
    """Trailing metadata of one call, which fails when the model is unknown."""
    async with running(build(settings), settings) as (_, channel):
        stub = tokenization_pb2_grpc.TokenizationServiceStub(channel)
        call = stub.Tokenize(pb.TokenizeRequest(model=model, texts=[SECRET]), metadata=metadata)
        if model == UNKNOWN_MODEL:
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        else:
            await call
        return dict(await call.trailing_metadata())


@pytest.mark.parametrize("model", ["embed", UNKNOWN_MODEL])
async def test_a_callers_trace_is_in_the_answer_the_log_and_the_error(
    repository: Path, caplog: pytest.LogCaptureFixture, model: str
) -> None:
    settings = TokenizationSettings(model_repository=repository)
    with caplog.at_level(logging.INFO, "naiad.rpc"):
        trailers = await tokenize(settings, model, (("traceparent", TRACEPARENT), ("tracestate", "vendor=1")))
    _, trace_id, span_id, flags = trailers["traceparent"].split("-")
    assert (trace_id, flags, trailers["tracestate"]) == (TRACE_ID, "01", "vendor=1")
    assert span_id != SPAN_ID
    (line,) = log_lines(caplog)
    assert (line["trace_id"], line["request_id"]) == (TRACE_ID, trailers["x-request-id"])
    if model == UNKNOWN_MODEL:
        info = error_details_pb2.ErrorInfo()
        assert status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details[0].Unpack(info)
        assert dict(info.metadata) == {"request_id": trailers["x-request-id"], "trace_id": TRACE_ID}


@pytest.mark.parametrize("log_prompts", [False, True])
async def test_texts_are_logged_only_when_that_is_asked_for(
    repository: Path, caplog: pytest.LogCaptureFixture, log_prompts: bool
) -> None:
    settings = TokenizationSettings(model_repository=repository, log_prompts=log_prompts)
    with caplog.at_level(logging.INFO, "naiad.rpc"):
        await tokenize(settings, "embed", ())
    assert (SECRET in json.dumps(log_lines(caplog))) is log_prompts
    assert any("NAIAD_LOG_PROMPTS" in line["message"] for line in log_lines(caplog)) is log_prompts


async def test_a_sampled_call_is_a_span_of_its_callers_trace(repository: Path) -> None:
    with otlp_receiver() as (receiver, endpoint):
        settings = TokenizationSettings(model_repository=repository, otlp_endpoint=endpoint)
        trailers = await tokenize(settings, "embed", (("traceparent", TRACEPARENT), ("x-request-id", "id-1")))
        (span,) = receiver.take(1)
        await tokenize(settings, UNKNOWN_MODEL, ())
        (failed,) = receiver.take(1)
        await tokenize(settings, "embed", (("traceparent", TRACEPARENT[:-1] + "0"),))
        assert receiver.spans.empty()
    assert span.name == "naiad.v1.TokenizationService/Tokenize"
    assert (span.service, span.trace_id, span.parent_span_id) == (SERVICE_NAME, TRACE_ID, SPAN_ID)
    assert trailers["traceparent"] == f"00-{TRACE_ID}-{span.span_id}-01"
    assert span.attributes["rpc.response.status_code"] == "OK"
    assert span.attributes["naiad.request_id"] == "id-1"
    assert 0 < span.end_ns - span.start_ns < 20e9
    assert (failed.parent_span_id, failed.is_error) == ("", True)
    assert failed.attributes["error.type"] == "MODEL_NOT_FOUND"
    assert SECRET.encode() not in receiver.bytes


@pytest.mark.parametrize("endpoint", ["localhost:4317", "ftp://localhost:4317"])
def test_an_endpoint_that_is_none_is_refused(endpoint: str) -> None:
    with pytest.raises(SettingsError, match=r"neither http:// nor https://"):
        make_observability("x", TokenizationSettings(otlp_endpoint=endpoint))


def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"pip install 'naiad\[otel\]'"):
        make_observability("x", TokenizationSettings(otlp_endpoint="http://localhost:4317"))


def test_opentelemetry_is_not_imported_when_it_is_off() -> None:
    program = (
        "import sys; from services.generation import app; from services.common.observability import make_observability;"
        "from services.common.settings import GenerationSettings; make_observability('x', GenerationSettings());"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
