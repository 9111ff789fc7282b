"""Services with fixed answers, and the command line called in this process."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from services.cli.main import main
from tests.unit.services.cli import fake_services
from tests.unit.services.cli.fake_services import Answers


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str


Naiad = Callable[..., Result]


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def address(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of all three services, which the command line finds through the environment."""
    with fake_services.running(answers) as found:
        for service in ("TOKENIZATION", "GENERATION", "CLASSIFICATION"):
            monkeypatch.setenv(f"NAIAD_{service}_ADDRESS", found)
        yield found


@pytest.fixture
def naiad(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Naiad:
    """Calls the command; `stdin` is what is piped into it."""

    def call(*words: str, stdin: str | None = None) -> Result:
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call
