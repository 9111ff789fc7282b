"""One of two Tritons is killed, ended or frozen under load, and no client can tell."""

import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from naiad.v1 import classification_pb2, classification_pb2_grpc
from naiad.v1 import generation_pb2 as pb

from tests.support.fleet import Fleet, Stream, requests_of_all_kinds
from tests.support.models import demo_model, repository_of
from tests.support.stack import running_stack
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

# Slow enough that its requests are surely alive when the signal comes.
DECODER = DecoderSpec(context_length_tokens=1024, num_layers=24, eos_id=None)
MAX_TOKENS = 500
PROMPTS = [[9, 4, 33, 12, 7], [50, 2, 41, 30, 18, 5, 61], [3, 22, 9, 10]]
# Any prompt may go to any of the two, soon after it has come back; and none is refused on a busy machine.
TWO_TRITONS = {
    "NAIAD_TRITON_REPLICAS": "2",
    "NAIAD_TRITON_READMISSION_MS": "0",
    "NAIAD_TRITON_AFFINITY_TOKENS": "0",
    "NAIAD_CANARY_INTERVAL_MS": "500",
    "NAIAD_MAX_DEATHS_PER_MINUTE": "1000",
    "NAIAD_GENERATION_MIN_INFLIGHT_TOKENS": "65536",
    "NAIAD_CLASSIFICATION_MIN_INFLIGHT_TOKENS": "262144",
}
SIGNALS = [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Two Tritons with a synthetic decoder and classifier."""
    folder: Path = tmp_path_factory.mktemp("fleet")
    threads = {"intra_op_threads": "1"}
    make_decoder(folder / "models", "decoder", DECODER, threads)
    make_encoder(folder / "models", "classify", EncoderSpec(task="classify"), threads)
    with running_stack(folder / "models", folder, **TWO_TRITONS) as stack:
        yield Fleet(stack)


@pytest.fixture(scope="module")
def undisturbed(fleet: Fleet) -> list[Stream]:
    """What all requests get without a fault."""
    streams = [fleet.run(request) for request in requests_of_all_kinds("decoder", PROMPTS, MAX_TOKENS)]
    greedy = streams[0].completions[0].token_ids
    assert greedy == expected_tokens(DECODER, PROMPTS[0], MAX_TOKENS)
    return streams


def run_disturbed(
    fleet: Fleet, requests: list[pb.GenerateStreamRequest], number: signal.Signals, tokens: int
) -> list[Stream]:
    """All requests at once; a Triton that has some of them is hurt when they have so many tokens on average."""
    streams = [Stream() for _ in requests]
    with ThreadPoolExecutor(len(requests)) as pool:
        calls = [pool.submit(fleet.run, request, stream) for request, stream in zip(requests, streams, strict=True)]
        while sum(stream.tokens for stream in streams) < tokens * len(streams) or not any(
            fleet.metric("generation", "naiad_triton_requests_in_flight").values()
        ):
            assert not all(call.done() for call in calls), "too late"
        hurt = fleet.hurt(fleet.working(), number)
        try:
            return [call.result(timeout=120) for call in calls]
        finally:
            if number is signal.SIGSTOP:
                hurt.resume()


def test_without_a_fault_no_triton_is_given_up(fleet: Fleet, undisturbed: list[Stream]) -> None:
    fleet.wait_until_all_serve()
    before = fleet.metric("generation", "naiad_triton_ejections_total")
    requests = requests_of_all_kinds("decoder", PROMPTS, MAX_TOKENS)
    with ThreadPoolExecutor(len(requests)) as pool:
        assert list(pool.map(fleet.run, requests)) == undisturbed
    assert fleet.metric("generation", "naiad_triton_ejections_total") == before
    assert len(before) == 2


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "tokens", [0, 7, pytest.param(1, marks=pytest.mark.slow), pytest.param(60, marks=pytest.mark.slow)]
)
def test_every_stream_is_what_it_would_have_been(
    fleet: Fleet, undisturbed: list[Stream], number: signal.Signals, tokens: int
) -> None:
    fleet.wait_until_all_serve()
    begun_s = time.monotonic()
    streams = run_disturbed(fleet, requests_of_all_kinds("decoder", PROMPTS, MAX_TOKENS), number, tokens)
    assert streams == undisturbed
    gap_s = max(stream.longest_gap_s for stream in streams)
    print(f"{number.name} after {tokens} tokens: longest gap {gap_s:.2f} s, {time.monotonic() - begun_s:.1f} s in all")
    assert gap_s < 15, "a frozen Triton is given up after its probe timeout"


def test_a_request_sent_to_a_frozen_triton_is_done_by_the_other(fleet: Fleet, undisturbed: list[Stream]) -> None:
    fleet.wait_until_all_serve()
    endpoint = next(iter(fleet.metric("generation", "naiad_triton_endpoint_up")))
    frozen = fleet.hurt(endpoint, signal.SIGSTOP)
    try:
        requests = requests_of_all_kinds("decoder", PROMPTS, MAX_TOKENS)
        with ThreadPoolExecutor(len(requests)) as pool:
            streams = list(pool.map(fleet.run, requests))
    finally:
        frozen.resume()
    assert streams == undisturbed


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_no_classification_is_lost(fleet: Fleet, number: signal.Signals) -> None:
    fleet.wait_until_all_serve(["classification"])
    stub = classification_pb2_grpc.ClassificationServiceStub(fleet.stack.channel("classification"))
    request = classification_pb2.ClassifyRequest(model="classify", texts=["t3 t7 t9 t12 " * 8] * 16)
    wanted = stub.Classify(request, timeout=30).results
    ended = threading.Event()
    calls_done = threading.Semaphore(0)

    def classify() -> int:
        count = 0
        while not ended.is_set():
            assert stub.Classify(request, timeout=30).results == wanted
            count += 1
            calls_done.release()
        return count

    with ThreadPoolExecutor(8) as pool:
        clients = [pool.submit(classify) for _ in range(8)]
        try:
            for _ in range(50):
                assert calls_done.acquire(timeout=30)
            hurt = fleet.hurt(fleet.working("classification"), number)
            # Calls at a frozen one end when it is given up; so many more cannot come from the calls in flight alone.
            for _ in range(200):
                assert calls_done.acquire(timeout=30)
        finally:
            ended.set()
            if number is signal.SIGSTOP:
                hurt.resume()
        assert sum(client.result(timeout=60) for client in clients) >= 250


@pytest.mark.slow
def test_the_chat_model_goes_on_with_the_same_text(tmp_path: Path) -> None:
    repository = repository_of([demo_model("chat")], "failover")
    prompts = ["Tell a long story about a fox.", "Count from one to fifty in words."]
    requests = []
    for text in prompts:
        for sampling in (pb.SamplingOptions(temperature=0), pb.SamplingOptions(temperature=1, seed=4, top_p=0.9)):
            request = pb.GenerateStreamRequest(model="chat", sampling=sampling)
            request.chat.messages.add(role="user", content=text)
            request.stopping.max_tokens, request.stopping.ignore_eos = 120, True
            request.response.return_token_ids = True
            requests.append(request)
    with running_stack(repository, tmp_path, **TWO_TRITONS) as stack:
        fleet = Fleet(stack)
        fleet.wait_until_all_serve()
        wanted = [fleet.run(request) for request in requests]
        for number in (signal.SIGKILL, signal.SIGSTOP):
            fleet.wait_until_all_serve()
            assert run_disturbed(fleet, requests, number, tokens=9) == wanted
