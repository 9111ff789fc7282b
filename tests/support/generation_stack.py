"""The generation service and the scripted Triton behind it, as its tests see them."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from naiad.v1 import generation_pb2 as pb
from naiad.v1 import generation_pb2_grpc

from services.common.tokenizer import TextTokenizer
from tests.support.fake_triton import FakeTriton, Plan

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


def says(stack: Stack, text: str, **plan: object) -> None:
    """Makes the fake engine answer `text`."""
    ids = stack.tokenizer.encode_ids(text)
    stack.fake.plan = lambda _: Plan(tokens=ids, **plan)  # type: ignore[arg-type]  # fields of Plan


async def events_of(call: grpc.aio.UnaryStreamCall) -> list[pb.GenerateStreamResponse]:
    """All events of a stream."""
    return [event async for event in call]


async def rest_of(call: grpc.aio.UnaryStreamCall) -> None:
    """Reads to the end a call of which something was read."""
    while await call.read() is not grpc.aio.EOF:
        pass


def text_of(events: list[pb.GenerateStreamResponse], index: int = 0) -> str:
    """The text of one completion."""
    return "".join(e.delta.text for e in events if e.HasField("delta") and e.delta.index == index)


async def stopped(stack: Stack, count: int) -> None:
    """Waits until that many requests were stopped, which must be all that the fake engine has seen."""
    async with asyncio.timeout(10):
        while len(stack.fake.stopped_ids) < count:
            stack.fake.stop_seen.clear()
            await stack.fake.stop_seen.wait()
    assert sorted(stack.fake.stopped_ids) == sorted(seen.id for seen in stack.fake.requests)
