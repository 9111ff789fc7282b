"""More work than the engine can do, all at once, with little time: everybody gets an answer, and nothing is left."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.support.engine_metrics import EngineMetrics, scrape
from tests.support.stack import Stack

pytestmark = pytest.mark.e2e

CALLS = 200
DEADLINE_S = 3.0


def outcome(stub: generation_pb2_grpc.GenerationServiceStub, number: int) -> tuple[str, float, int]:
    """How a call ended, how long that took, and the time after which it may be tried again, in milliseconds."""
    request = generation_pb2.GenerateRequest(model="chat", text=f"Story {number}: once upon a time")
    request.stopping.max_tokens, request.stopping.ignore_eos = 400, True
    begun_s = time.monotonic()
    try:
        stub.Generate(request, timeout=DEADLINE_S)
    except grpc.RpcError as error:
        pushback = dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms", 0)
        return str(error.code().name), time.monotonic() - begun_s, int(pushback)
    return "OK", time.monotonic() - begun_s, 0


def test_a_flood_is_refused_or_ends_at_its_deadline_and_leaves_the_engine_idle(stack: Stack) -> None:
    stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
    with ThreadPoolExecutor(CALLS) as pool:
        outcomes = list(pool.map(lambda number: outcome(stub, number), range(CALLS)))
    codes = Counter(code for code, _, _ in outcomes)
    assert set(codes) <= {"OK", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}, codes
    assert codes["RESOURCE_EXHAUSTED"] > 0 and codes["DEADLINE_EXCEEDED"] > 0, codes
    for code, duration_s, pushback_ms in outcomes:
        assert duration_s < DEADLINE_S + 2
        assert (pushback_ms > 0) is (code == "RESOURCE_EXHAUSTED")
    begun_s = time.monotonic()
    while True:
        engine = EngineMetrics.parse(scrape(stack.metrics_ports["triton"]), "chat")
        if not engine.unfinished and not engine.blocks("used"):
            break
        assert time.monotonic() - begun_s < 5, "the engine works for calls whose time is over"
    request = generation_pb2.GenerateRequest(model="chat", text="Hello")
    request.stopping.max_tokens = 3
    assert stub.Generate(request, timeout=30).usage.completion_tokens > 0
