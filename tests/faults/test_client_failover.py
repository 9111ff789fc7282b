"""A client of two services of which one goes away: its unary calls do not fail."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services import client
from tests.support.small_models import bert_tokenizer, write_model

pytestmark = pytest.mark.faults

# No more calls in flight than the retry budget covers when all of them fail at once: docs/clients.md.
CALLERS = 4
CALLS_BEFORE, CALLS_AFTER = 40, 200


@dataclass
class Service:
    """A service in a process of its own."""

    process: subprocess.Popen[str]
    address: str
    log: list[dict] = field(default_factory=list)

    def calls(self) -> int:
        """Calls that it has answered."""
        return sum(line["message"] == "call" and line["code"] == "OK" for line in self.log)


@contextmanager
def tokenization_service(repository: Path) -> Iterator[Service]:
    """A running one."""
    environment = {
        "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry),
        "PATH": os.environ["PATH"],
        "NAIAD_MODEL_REPOSITORY": str(repository),
        "NAIAD_TOKENIZATION_PORT": "0",
        "NAIAD_TOKENIZATION_METRICS_PORT": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.tokenization"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    service = Service(process, f"127.0.0.1:{json.loads(process.stderr.readline())['port']}")
    reader = threading.Thread(target=lambda: service.log.extend(json.loads(line) for line in process.stderr or ()))
    reader.start()
    try:
        yield service
    finally:
        process.kill()
        process.wait()
        reader.join()
        process.stderr.close()


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_unary_calls_all_succeed_while_one_of_two_services_goes_away(tmp_path: Path, end: signal.Signals) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    write_model(repository, "embed", "embed", bert_tokenizer())
    with ExitStack() as stack:
        leaving = stack.enter_context(tokenization_service(repository))
        staying = stack.enter_context(tokenization_service(repository))
        naiad = stack.enter_context(client.connect([leaving.address, staying.address]))
        callers = stack.enter_context(ThreadPoolExecutor(CALLERS))

        def call(number: int) -> None:
            if number == CALLS_BEFORE:
                leaving.process.send_signal(end)
            assert naiad.tokenize(model="embed", texts=["hello"]).results[0].tokenization.token_ids

        for done in [callers.submit(call, number) for number in range(CALLS_BEFORE + CALLS_AFTER)]:
            done.result()
        leaving.process.wait(timeout=30)
    assert leaving.calls() > 0
    assert staying.calls() >= CALLS_AFTER - CALLERS
    if end is signal.SIGTERM:
        assert leaving.process.returncode == 0
