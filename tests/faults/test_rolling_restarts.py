"""Replicas are restarted one after the other under load, and no client can tell."""

from __future__ import annotations

import re
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from naiad.v1 import generation_pb2

from services import client
from tests.support.cluster import ManagedService, ManagedTriton, started
from tests.support.history import OK, CallRecord, History, violations
from tests.support.recorded_calls import Question
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder
from tests.synthetic.make_encoder import EncoderSpec, make_encoder

pytestmark = [pytest.mark.faults]

TRITONS = 2
REPLICAS = 2
SERVICES = ("tokenization", "generation", "classification")
SPEC = DecoderSpec(context_length_tokens=1024, num_layers=8, eos_id=None)
SHORT = Question("decoder", [9, 4, 33, 12, 7], 8, deadline_s=30)
LONG = Question("decoder", [50, 2, 41], 200, deadline_s=60)
ANSWERS = {question.answer: expected_tokens(SPEC, question.prompt, question.max_tokens) for question in (SHORT, LONG)}
TEXTS = ["t3 t7", "t9"]
EXIT_BUDGET_S = 20 + 5


@dataclass
class Cluster:
    """Replicas of each service over the Tritons."""

    tritons: list[ManagedTriton]
    services: dict[str, list[ManagedService]]

    def clients(self, stack: ExitStack) -> dict[str, client.Client]:
        """A client of each service that knows all its replicas."""
        return {
            name: stack.enter_context(client.connect([replica.address for replica in replicas]))
            for name, replicas in self.services.items()
        }


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    models = tmp_path / "models"
    make_decoder(models, "decoder", SPEC, {"intra_op_threads": "1"})
    make_encoder(models, "classify", EncoderSpec(task="classify"), {"intra_op_threads": "1"})
    tritons = [ManagedTriton(f"triton-{number}", models, tmp_path) for number in range(TRITONS)]
    addresses = ",".join(triton.address for triton in tritons)
    services = {
        name: [
            ManagedService(name, models, addresses, tmp_path / f"{name}-{number}.log", {}) for number in range(REPLICAS)
        ]
        for name in SERVICES
    }
    with started(*tritons, *(replica for replicas in services.values() for replica in replicas)):
        yield Cluster(tritons, services)


def generate(naiad: client.Client, call: CallRecord) -> None:
    response = naiad.generation.Generate(SHORT.fill(generation_pb2.GenerateRequest()), timeout=SHORT.deadline_s)
    call.add_tokens(response.completions[0].token_ids)


def stream(naiad: client.Client, call: CallRecord) -> None:
    for event in naiad.generation.GenerateStream(
        LONG.fill(generation_pb2.GenerateStreamRequest()), timeout=LONG.deadline_s
    ):
        call.add_tokens(event.delta.token_ids)


def classify(naiad: client.Client, _: CallRecord) -> None:
    response = naiad.classify(model="classify", texts=TEXTS)
    assert [result.WhichOneof("outcome") for result in response.results] == ["classification"] * len(TEXTS)


def tokenize(naiad: client.Client, _: CallRecord) -> None:
    response = naiad.tokenize(model="decoder", texts=TEXTS)
    assert [list(result.tokenization.token_ids) for result in response.results] == [[3, 7], [9]]


@dataclass(frozen=True)
class Kind:
    """One kind of call: to which service, how, and with which answer."""

    service: str
    make: Callable[[client.Client, CallRecord], None]
    answer: str | None = None


KINDS = {
    "generate": Kind("generation", generate, SHORT.answer),
    "stream": Kind("generation", stream, LONG.answer),
    "classify": Kind("classification", classify),
    "tokenize": Kind("tokenization", tokenize),
}


class Load:
    """One caller of each kind, until the end of the `with` block."""

    def __init__(self, clients: dict[str, client.Client], history: History) -> None:
        self._clients = clients
        self._history = history
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(len(KINDS))

    def __enter__(self) -> Load:
        self._callers = [self._pool.submit(self._call, name, kind) for name, kind in KINDS.items()]
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._pool.shutdown(wait=True)
        for caller in self._callers:
            caller.result()

    def _call(self, name: str, kind: Kind) -> None:
        while not self._done.is_set():
            call = self._history.begin(name, kind.answer)
            try:
                kind.make(self._clients[kind.service], call)
            except grpc.RpcError as error:
                call.end(str(error.code().name), str(error))
            else:
                call.end(OK)


def page_of(replica: ManagedService) -> str:
    """Its metrics."""
    with urllib.request.urlopen(f"http://127.0.0.1:{replica.metrics_port}/metrics", timeout=5) as page:
        return str(page.read().decode())


def calls_served(replica: ManagedService) -> float:
    """Calls that it has answered since it started."""
    counts = re.findall(r"^naiad_rpc_requests_total{.*} (\S+)$", page_of(replica), re.MULTILINE)
    return sum(map(float, counts))


def restart(replica: ManagedService) -> None:
    """Ends it in order, starts it again, and returns once clients use it: only then may the next one go."""
    begun = time.monotonic()
    replica.send(signal.SIGTERM)
    assert replica.wait() == 0, replica.log()[-2000:]
    assert time.monotonic() - begun < EXIT_BUDGET_S
    replica.start()
    replica.wait_ready()
    deadline = time.monotonic() + 30
    while calls_served(replica) == 0:
        assert time.monotonic() < deadline, f"no client has come back to {replica.name}"


def restart_triton(triton: ManagedTriton, users: Iterable[ManagedService]) -> None:
    """The same for a Triton: returns once all services use it again."""
    triton.send(signal.SIGTERM)
    # A request may still come for a model that it has begun to unload, of which Triton 2.51 may die (decision 0002).
    # What counts is that no client notices.
    assert triton.wait() in (0, -signal.SIGABRT), triton.log()[-2000:]
    triton.start()
    triton.wait_ready()
    used = f'naiad_triton_endpoint_up{{endpoint="{triton.address}"}} 1.0'
    deadline = time.monotonic() + 30
    while not all(used in page_of(replica) for replica in users):
        assert time.monotonic() < deadline, f"a service has not come back to {triton.name}"


def check(history: History, what: str, least_calls: int) -> None:
    """Fails unless all calls of each kind ended well, and there were as many of each."""
    outcomes = {kind: dict(history.outcomes(kind)) for kind in KINDS}
    print(f"{what}: {outcomes}")
    assert violations(history, ANSWERS, allowed=()) == []
    assert all(of_kind[OK] >= least_calls for of_kind in outcomes.values())


each_length = pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(1, marks=pytest.mark.timeout(180)),
        pytest.param(25, marks=[pytest.mark.slow, pytest.mark.timeout(2400)]),
    ],
)


@each_length
def test_rolling_restarts_of_services_fail_no_call_and_break_no_stream(cluster: Cluster, rounds: int) -> None:
    history = History()
    with ExitStack() as stack:
        clients = cluster.clients(stack)
        with Load(clients, history):
            for _ in range(rounds):
                for number in range(REPLICAS):
                    for replicas in cluster.services.values():
                        restart(replicas[number])
    check(history, f"{rounds * REPLICAS} restarts of each service", 2 * rounds)


@each_length
def test_rolling_restarts_of_tritons_fail_no_call_and_break_no_stream(cluster: Cluster, rounds: int) -> None:
    history = History()
    users = [replica for name in ("generation", "classification") for replica in cluster.services[name]]
    with ExitStack() as stack:
        clients = cluster.clients(stack)
        with Load(clients, history):
            for _ in range(rounds):
                for triton in cluster.tritons:
                    restart_triton(triton, users)
    check(history, f"{rounds * TRITONS} restarts of Tritons", 2 * rounds)
