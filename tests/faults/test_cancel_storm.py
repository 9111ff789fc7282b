"""Ten minutes of streams that clients leave at random moments: nothing crashes, nothing is lost, nothing leaks."""

import itertools
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import psutil
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from tests.e2e.test_metrics import total
from tests.support.engine_metrics import scrape
from tests.support.models import exact_repository
from tests.support.stack import Stack, running_stack

pytestmark = [pytest.mark.faults, pytest.mark.slow, pytest.mark.timeout(1200)]

STORM_S = 600.0
CLIENTS = 24


@pytest.fixture
def own_stack(tmp_path: Path) -> Iterator[Stack]:
    with running_stack(exact_repository(), tmp_path) as running:
        yield running


def leave_at_a_random_moment(stub: generation_pb2_grpc.GenerationServiceStub, seed: int) -> str:
    chance = random.Random(seed)
    request = generation_pb2.GenerateStreamRequest(model="chat", text="word " * chance.randrange(1, 60))
    request.stopping.max_tokens, request.stopping.ignore_eos = chance.choice((1, 4, 64)), True
    request.sampling.temperature = chance.choice((0.0, 0.8))
    request.sampling.top_k = 20
    call = stub.GenerateStream(request, timeout=120)
    leaver = threading.Timer(chance.expovariate(4.0), call.cancel)
    leaver.start()
    try:
        list(call)
    except grpc.RpcError as error:
        return str(error.code().name)
    finally:
        leaver.cancel()
    return "OK"


def wait_until_idle(stack: Stack) -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        page = scrape(stack.metrics_ports["triton"])
        if total(page, "naiad_num_requests_running") + total(page, "naiad_num_requests_waiting") == 0:
            return page
    raise AssertionError("the engine still works for clients that have left")


def test_a_storm_of_leaving_clients_leaves_nothing_behind(own_stack: Stack) -> None:
    processes = psutil.Process(own_stack.process.pid).children(recursive=True)
    stub = generation_pb2_grpc.GenerationServiceStub(own_stack.channel("generation"))
    end_s = time.monotonic() + STORM_S

    def client(number: int) -> Counter[str]:
        outcomes: Counter[str] = Counter()
        for seed in itertools.count(number, CLIENTS):
            if time.monotonic() >= end_s:
                break
            outcomes[leave_at_a_random_moment(stub, seed)] += 1
        return outcomes

    with ThreadPoolExecutor(CLIENTS) as pool:
        outcomes = sum(pool.map(client, range(CLIENTS)), Counter[str]())
    print(f"{outcomes.total()} streams in {STORM_S:.0f} s: {dict(outcomes)}")
    assert set(outcomes) <= {"OK", "CANCELLED", "RESOURCE_EXHAUSTED"}, outcomes
    assert outcomes["OK"] > 0 and outcomes["CANCELLED"] > 0, outcomes

    page = wait_until_idle(own_stack)
    assert all(process.is_running() for process in processes), "a process died in the storm"
    used = re.findall(r'^naiad_kv_cache_blocks\{[^}]*state="used"[^}]*\} (\S+)$', page, re.MULTILINE)
    assert used and set(used) == {"0"}
    assert total(page, "naiad_request_failure_total") == 0
    request = generation_pb2.GenerateRequest(model="chat", text="Hello")
    request.stopping.max_tokens = 3
    assert stub.Generate(request, timeout=30).usage.completion_tokens == 3
