"""A walk of wrong requests with marked content: the marks come back in no error, and stand in no log line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import (
    classification_pb2,
    classification_pb2_grpc,
    common_pb2,
    generation_pb2,
    generation_pb2_grpc,
    tokenization_pb2,
    tokenization_pb2_grpc,
)

from services.common.tenant_file import digest_of
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.component

MARK = "ZXPROMPTXZ"  # in everything that a caller says
NAME_MARK = "ZXNAMEXZ"  # in names of models: errors may repeat those to their caller, logs may not
TOKEN = "naiad_" + "ZXTOKENXZ" * 3
LONG = f"{MARK} " * 20_000
# Paths, memory addresses, source files, and the names of what is inside.
INTERNAL = re.compile(
    r"/[\w.-]+/[\w.-]+|0x[0-9a-f]{4,}|\.(py|cc|h|so|onnx|pbtxt)\b|Traceback|triton|onnx|xgrammar|jinja|shm|localhost"
    r"|127\.0\.0\.1",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def stack(synthetic_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("leaks")
    file = folder / "tenants.json"
    file.write_text(json.dumps({"tenants": {"walker": {"tokens": [{"sha256": digest_of(TOKEN).hex()}]}}}))
    with running_stack(synthetic_repository, folder, NAIAD_TENANTS_FILE=str(file)) as running:
        yield running


def _generation(stub: Any) -> Iterator[tuple[Callable[..., Any], Any]]:
    pb = generation_pb2
    chat = common_pb2.Chat(messages=[{"role": MARK, "content": MARK}])
    for request in (
        pb.GenerateRequest(model=NAME_MARK, text=MARK),
        pb.GenerateRequest(model="embed", text=MARK),
        pb.GenerateRequest(model="decoder", text=LONG),
        pb.GenerateRequest(model="decoder", chat=chat),
        pb.GenerateRequest(model="decoder", text=MARK, stopping=pb.StoppingOptions(stop=[LONG, MARK, ""])),
        pb.GenerateRequest(model="decoder", text=MARK, sampling=pb.SamplingOptions(temperature=-1, n=1000)),
        pb.GenerateRequest(model="decoder", text=MARK, guide=pb.Guide(regex=f"({MARK}")),
        pb.GenerateRequest(model="decoder", text=MARK, guide=pb.Guide(json_schema=f'{{"type": "{MARK}"}}')),
        pb.GenerateRequest(model="decoder", text=MARK, guide=pb.Guide(json_schema=MARK)),
        pb.GenerateRequest(model="decoder", token_ids=common_pb2.TokenIds(ids=[-1, 1 << 30])),
        pb.GenerateRequest(model="decoder", text=MARK, priority=99),
    ):
        yield stub.Generate, request
    yield stub.Score, pb.ScoreRequest(model=NAME_MARK, text=MARK)
    yield stub.Score, pb.ScoreRequest(model="decoder", text=LONG)


def _classification(stub: Any) -> Iterator[tuple[Callable[..., Any], Any]]:
    pb = classification_pb2
    yield stub.Classify, pb.ClassifyRequest(model=NAME_MARK, texts=[MARK])
    yield stub.Classify, pb.ClassifyRequest(model="embed", texts=[MARK])
    yield stub.Classify, pb.ClassifyRequest(model="classify")
    yield stub.Embed, pb.EmbedRequest(model=NAME_MARK, texts=[MARK])
    yield stub.Embed, pb.EmbedRequest(model="embed", texts=[MARK], dimensions=1_000_000)
    yield stub.Rerank, pb.RerankRequest(model=NAME_MARK, query=MARK, documents=[MARK])
    yield stub.ClassifyZeroShot, pb.ClassifyZeroShotRequest(model="embed", texts=[MARK], labels=[MARK, MARK])
    yield stub.ClassifyTokens, pb.ClassifyTokensRequest(model="classify", texts=[MARK])
    yield stub.Explain, pb.ExplainRequest(model="classify", text=MARK, label=MARK)


def _tokenization(stub: Any) -> Iterator[tuple[Callable[..., Any], Any]]:
    pb = tokenization_pb2
    yield stub.Tokenize, pb.TokenizeRequest(model=NAME_MARK, texts=[MARK])
    yield stub.Tokenize, pb.TokenizeRequest(model="decoder", texts=[MARK], max_length=-1)
    yield stub.Detokenize, pb.DetokenizeRequest(model="decoder", sequences=[{"ids": [1 << 30]}])
    chat = [{"role": MARK, "content": MARK}]
    yield stub.ApplyChatTemplate, pb.ApplyChatTemplateRequest(model="decoder", messages=chat)


def walk(stack: Stack) -> Iterator[tuple[Callable[..., Any], Any]]:
    """Wrong requests of all services."""
    yield from _generation(generation_pb2_grpc.GenerationServiceStub(stack.channel("generation")))
    yield from _classification(classification_pb2_grpc.ClassificationServiceStub(stack.channel("classification")))
    yield from _tokenization(tokenization_pb2_grpc.TokenizationServiceStub(stack.channel("tokenization")))


def all_of(error: grpc.RpcError) -> str:
    """Everything that an error tells its caller."""
    call: Any = error
    parts = [call.details() or ""]
    for key, value in call.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = status_pb2.Status.FromString(value)
            bad_request = error_details_pb2.BadRequest()
            parts.append(status.message)
            parts += [str(v) for d in status.details if d.Unpack(bad_request) for v in bad_request.field_violations]
        else:
            parts.append(f"{key}: {value!r}")
    return "\n".join(parts)


def test_errors_and_log_lines_repeat_nothing_of_what_was_said(stack: Stack) -> None:
    metadata = (("authorization", f"Bearer {TOKEN}"), ("x-request-id", f"{MARK} is no id"), ("x-user", MARK))
    failed = 0
    for call, request in walk(stack):
        for sent in (metadata, (("authorization", f"Bearer {TOKEN}{MARK}"),)):
            try:
                call(request, metadata=sent, timeout=20)
            except grpc.RpcError as error:
                failed += 1
                told = all_of(error)
                assert MARK not in told, (type(request).__name__, told)
                assert TOKEN not in told
                assert not INTERNAL.search(told), (type(request).__name__, told)
    assert failed >= 45
    for log in (stack.output.parent / "logs").glob("*.log"):
        text = log.read_text()
        for mark in (MARK, NAME_MARK, TOKEN, "ZXTOKENXZ"):
            assert mark not in text, (log.name, [line for line in text.splitlines() if mark in line])
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        calls = [line for line in lines if line["message"] == "call"]
        assert calls or log.name == "triton.log"
        for line in calls:
            shown = {key: value for key, value in line.items() if key not in ("method", "time")}
            assert not INTERNAL.search(json.dumps(shown)), line
