"""The inputs that fuzzing has kept: each is answered or refused, as when it was found. `make fuzz` seeks new ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import target_names

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
CPP_TARGETS = ("generation_request", "encoder_request", "model_config", "guide")  # replayed by ctest


@pytest.mark.parametrize("target", target_names())
def test_kept_inputs_give_no_finding(target: str) -> None:
    # In a process of its own: that of chat templates has limits of memory and time.
    command = [sys.executable, "-m", "tests.fuzz.replay", target, str(CORPUS / target)]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'protos'}", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4_000:]
    assert int(done.stdout.split()[0]) > 0, "the corpus is empty"


def test_every_corpus_has_a_target() -> None:
    assert {path.name for path in CORPUS.iterdir()} == {*CPP_TARGETS, *target_names()}
