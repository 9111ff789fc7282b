"""The repository changes while clients call: nobody ever gets an answer of a model that is half old and half new.

The models are synthetic, and each version of one gives other tokens, so that every answer says which version it is of.
"""

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import onnx
import psutil
import pytest
from naiad.v1 import generation_pb2, generation_pb2_grpc

from exporters.writer import publish, staging
from tests.support.malicious_models import ALL, rehash
from tests.support.stack import Stack, running_stack
from tests.synthetic.make_decoder import DecoderSpec, expected_tokens, make_decoder

pytestmark = pytest.mark.faults

OLD, NEW = DecoderSpec(num_layers=2), DecoderSpec(num_layers=3)
PROMPT, TOKENS = [5, 9, 3], 8
ANSWERS = {"old": expected_tokens(OLD, PROMPT, TOKENS, True), "new": expected_tokens(NEW, PROMPT, TOKENS, True)}
CLIENTS = 4


def generate(stack: Stack, model: str = "decoder") -> str:
    """Which version answers, or the name of the gRPC status."""
    request = generation_pb2.GenerateRequest(model=model)
    request.token_ids.ids.extend(PROMPT)
    request.sampling.temperature = 0.0
    request.stopping.max_tokens, request.stopping.ignore_eos = TOKENS, True
    request.response.return_token_ids = True
    try:
        stub = generation_pb2_grpc.GenerationServiceStub(stack.channel("generation"))
        answer = list(stub.Generate(request, timeout=30).completions[0].token_ids)
    except grpc.RpcError as error:
        return str(error.code().name)
    return next((name for name, tokens in ANSWERS.items() if tokens == answer), f"neither: {answer}")


@dataclass
class Load:
    """Clients that ask without a pause; their outcomes in order of time."""

    outcomes: list[tuple[float, str]] = field(default_factory=list)
    ending: threading.Event = field(default_factory=threading.Event)

    def since(self, begun_s: float) -> list[str]:
        return [outcome for when_s, outcome in list(self.outcomes) if when_s >= begun_s]

    def wait_for(self, count: int, begun_s: float) -> list[str]:
        """The outcomes since then, once there are so many."""
        deadline = time.monotonic() + 30
        while len(self.since(begun_s)) < count:
            assert time.monotonic() < deadline, "the clients get no answers"
            self.ending.wait(0.01)
        return self.since(begun_s)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    make_decoder(folder, "decoder", OLD, {"intra_op_threads": "1"})
    make_decoder(folder, "other", OLD, {"intra_op_threads": "1"})
    return folder


@pytest.fixture
def stack(repository: Path, tmp_path: Path) -> Iterator[Stack]:
    with running_stack(repository, tmp_path) as running:
        yield running


@pytest.fixture
def load(stack: Stack) -> Iterator[Load]:
    running = Load()

    def client() -> None:
        while not running.ending.is_set():
            begun_s = time.monotonic()
            outcome = generate(stack)
            running.outcomes.append((begun_s, outcome))
            if outcome not in ANSWERS:
                running.ending.wait(0.02)

    threads = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    running.wait_for(20, 0.0)
    yield running
    running.ending.set()
    for thread in threads:
        thread.join(40)


def export(repository: Path, spec: DecoderSpec, change: Callable[[Path], None] = lambda _: None) -> None:
    """Replaces the entry `decoder` as an export does."""
    with staging(repository, "decoder") as folder:
        made = make_decoder(folder / "made", "decoder", spec, {"intra_op_threads": "1"})
        change(made)
        (folder / "1").rmdir()
        for item in made.iterdir():
            item.rename(folder / item.name)
        shutil.rmtree(folder / "made")
        publish(folder, repository, "decoder", force=True)


def triton_pid(stack: Stack) -> int:
    children = psutil.Process(stack.process.pid).children(recursive=True)
    return next(child.pid for child in children if "tritonserver" in Path(child.cmdline()[0]).name)


def break_graph(entry: Path) -> None:
    """What passes every check that needs no ONNX Runtime, and does not load."""
    graph = onnx.load(entry / "1" / "model.onnx")
    graph.graph.node[0].op_type = "NoSuchOperator"
    (entry / "1" / "model.onnx").write_bytes(graph.SerializeToString())
    rehash(entry)


def test_an_export_is_served_after_a_reload_and_not_before(repository: Path, stack: Stack, load: Load) -> None:
    export(repository, NEW)
    exported_s = time.monotonic()
    # Services look at their manifests once a second.
    assert set(load.wait_for(100, exported_s + 1.5)) == {"old"}

    reload = stack.run_cli("reload")
    assert (reload.returncode, reload.stdout) == (0, "models reloaded: ~decoder\n")
    reloaded_s = time.monotonic()
    stack.wait_for_health("generation", 1, timeout_s=30)
    served_s = time.monotonic()
    assert set(load.since(exported_s)) <= {"old", "new", "UNAVAILABLE"}
    assert set(load.wait_for(50, served_s + 0.5)) == {"new"}
    assert served_s - reloaded_s < 10


def test_a_model_that_is_refused_disturbs_nobody(repository: Path, stack: Stack, load: Load) -> None:
    before = triton_pid(stack)
    begun_s = time.monotonic()
    export(repository, NEW, next(mischief for mischief in ALL if mischief.name == "operator-library").apply)
    reload = stack.run_cli("reload")
    assert reload.returncode == 1
    assert "models of before are still served: decoder/config.pbtxt: model_operations is not allowed" in reload.stderr
    load.wait_for(100, begun_s)
    assert triton_pid(stack) == before
    assert set(load.since(begun_s)) == {"old"}


def test_a_model_that_does_not_load_is_taken_back(repository: Path, stack: Stack, load: Load) -> None:
    begun_s = time.monotonic()
    export(repository, NEW, break_graph)
    reload = stack.run_cli("reload")
    assert reload.returncode == 1
    assert "triton did not start with the new ones" in reload.stderr
    stack.wait_for_health("generation", 1, timeout_s=30)
    assert set(load.wait_for(50, time.monotonic() + 0.5)) == {"old"}
    assert set(load.since(begun_s)) <= {"old", "UNAVAILABLE"}


def test_triton_comes_back_with_the_models_of_before_whatever_the_repository_has_by_then(
    repository: Path, stack: Stack
) -> None:
    export(repository, NEW, break_graph)
    shutil.rmtree(repository / "other")
    psutil.Process(triton_pid(stack)).kill()
    stack.wait_for_health("generation", 2, timeout_s=30)
    stack.wait_for_health("generation", 1, timeout_s=30)
    assert (generate(stack), generate(stack, "other")) == ("old", "old")


def test_a_model_that_is_gone_is_not_found_and_a_new_one_is_served(repository: Path, stack: Stack) -> None:
    shutil.rmtree(repository / "other")
    make_decoder(repository, "added", NEW, {"intra_op_threads": "1"})
    assert generate(stack, "other") == "old"
    reload = stack.run_cli("reload")
    assert reload.stdout == "models reloaded: +added -other\n", reload.stderr
    stack.wait_for_health("generation", 1, timeout_s=30)
    deadline = time.monotonic() + 30
    while generate(stack, "added") != "new":
        assert time.monotonic() < deadline
    assert generate(stack, "other") == "NOT_FOUND"
    listed = json.loads(stack.run_cli("models", "--json").stdout.splitlines()[0])
    assert listed["name"] == "added"
