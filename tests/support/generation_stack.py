"""The generation service and the scripted Triton behind it, as its tests see them."""

from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import generation_pb2_grpc

from services.common.tokenizer import TextTokenizer
from tests.support.fake_triton import FakeTriton

CONTEXT_TOKENS = 200


@dataclass
class Stack:
    """Everything that a test of the service talks to."""

    fake: FakeTriton
    stub: generation_pb2_grpc.GenerationServiceStub
    channel: grpc.aio.Channel
    tokenizer: TextTokenizer
    metrics_port: int


@dataclass
class Failure:
    """A failed call as the client sees it."""

    code: grpc.StatusCode
    reason: str
    fields: list[str]
    trailers: dict[str, str | bytes]


async def failure_of(call: Awaitable[object]) -> Failure:
    """How the call fails; awaiting a stream reads its first message."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    trailers = dict(caught.value.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    fields = [v.field for d in status.details if d.Unpack(bad_request) for v in bad_request.field_violations]
    return Failure(caught.value.code(), info.reason, fields, trailers)
