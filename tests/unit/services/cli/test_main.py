"""What holds for all commands: help, exit codes, errors, addresses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.main import COMMANDS
from services.common.errors import FieldViolation, NaiadError, Reason, invalid_fields
from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_services import Answers

REPOSITORY_ROOT = Path(__file__).parents[4]
NOBODY = "127.0.0.1:1"
CLIENT_COMMANDS = ["generate", "classify", "embed", "tokenize", "score", "entities", "rerank", "zero-shot"]
WORDS = {"rerank": ["question"], "zero-shot": ["-l", "label"]}  # what a command needs beside a text


def test_help_lists_every_command_and_the_exit_codes(naiad: Naiad) -> None:
    result = naiad("--help")
    assert result.code == 0
    for name in COMMANDS:
        assert f"    {name} " in result.out
    assert "69 " in result.out


@pytest.mark.parametrize("command", [*CLIENT_COMMANDS, "models", "serve"])
def test_each_command_has_help_with_examples(naiad: Naiad, command: str) -> None:
    result = naiad(command, "--help")
    assert result.code == 0
    assert "examples:" in result.out
    assert f"naiad {command}" in result.out.split("examples:")[1]


def test_no_command_and_unknown_commands_are_wrong_usage(naiad: Naiad) -> None:
    assert naiad().code == 2
    assert naiad("fly").code == 2
    assert naiad("generate", "--temprature", "1", "x").code == 2


def test_help_needs_none_of_the_heavy_packages() -> None:
    program = (
        "import sys; from services.cli.main import main\n"
        "try: main(['generate', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'grpc', 'google', 'numpy', 'tokenizers', 'torch'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=REPOSITORY_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_a_service_that_cannot_be_reached_is_one_line_and_exit_code_69(naiad: Naiad, command: str) -> None:
    result = naiad(command, "--address", NOBODY, *WORDS.get(command, []), "x")
    assert result.code == 69
    assert result.err.count("\n") == 1
    assert f"cannot be reached at {NOBODY}: is `naiad serve` running?" in result.err


def test_models_names_each_service_that_cannot_be_reached_and_lists_the_rest(naiad: Naiad, address: str) -> None:
    result = naiad("models", "--classification-address", NOBODY)
    assert result.code == 69
    assert result.err == f"naiad: the classification service cannot be reached at {NOBODY}: is `naiad serve` running?\n"
    assert "chat" in result.out


@pytest.mark.usefixtures("address")
def test_field_violations_are_printed_on_the_one_line(naiad: Naiad, answers: Answers) -> None:
    violations = [
        FieldViolation("sampling.top_p", "2.0 is over 1"),
        FieldViolation("stopping.max_tokens", "-1 is negative"),
    ]
    answers.failure = invalid_fields(violations)
    result = naiad("generate", "x")
    assert result.code == 1
    assert result.err.count("\n") == 1
    assert result.err.startswith("naiad: generation: INVALID_ARGUMENT: sampling.top_p: 2.0 is over 1 (and 1 more)")
    assert "stopping.max_tokens: -1 is negative" in result.err
    assert result.err.count("2.0 is over 1") == 1


@pytest.mark.usefixtures("address")
def test_an_overloaded_service_says_when_to_come_back(naiad: Naiad, answers: Answers) -> None:
    answers.failure = NaiadError(Reason.OVERLOADED, "too many requests are in flight", retry_after_ms=1500)
    result = naiad("embed", "x")
    assert result.code == 1
    assert "RESOURCE_EXHAUSTED: too many requests are in flight; try again in 1.5 s" in result.err


@pytest.mark.usefixtures("address")
def test_an_engine_that_is_down_is_exit_code_69(naiad: Naiad, answers: Answers) -> None:
    answers.failure = NaiadError(Reason.ENGINE_UNAVAILABLE, "the engine cannot be reached")
    result = naiad("embed", "x")
    assert (result.code, result.err) == (69, "naiad: classification: UNAVAILABLE: the engine cannot be reached\n")


@pytest.mark.parametrize("address", ["localhost", "localhost:http", ":80"])
def test_an_address_that_is_none_is_wrong_usage(naiad: Naiad, address: str) -> None:
    result = naiad("embed", "--address", address, "x")
    assert result.code == 2
    assert "is not HOST:PORT" in result.err


def test_the_ports_of_naiad_serve_are_used_when_no_address_is_given(
    naiad: Naiad, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAIAD_HOST", "0.0.0.0")
    monkeypatch.setenv("NAIAD_CLASSIFICATION_PORT", "1")
    assert f"cannot be reached at {NOBODY}" in naiad("embed", "x").err


def test_a_misspelt_setting_is_named(naiad: Naiad, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAIAD_CLASSIFICATION_PROT", "1")
    result = naiad("embed", "x")
    assert result.code == 2
    assert "did you mean NAIAD_CLASSIFICATION_PORT?" in result.err


def test_empty_standard_input_is_wrong_usage(naiad: Naiad) -> None:
    assert naiad("embed", "--address", NOBODY, stdin="\n").code == 2


@pytest.mark.usefixtures("address")
def test_a_reader_that_leaves_early_ends_the_command_quietly(address: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "embed", "--address", address],
        cwd=REPOSITORY_ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"east\n" * 10_000)
        process.stdin.close()
        errors = process.stderr.read()
        assert (process.wait(timeout=30), errors) == (141, b"")


def test_export_without_its_packages_says_how_to_get_them(naiad: Naiad, monkeypatch: pytest.MonkeyPatch) -> None:
    class Exporters:
        @staticmethod
        def add_arguments(parser: object) -> None:
            del parser

        @staticmethod
        def run(arguments: object) -> int:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setitem(sys.modules, "exporters.cli", Exporters)  # type: ignore[arg-type]  # stands for the module
    result = naiad("export")
    assert result.code == 1
    assert result.err == (
        "naiad: the package torch is missing: install what exporting needs with `pip install 'naiad[export]'`\n"
    )


def test_serve_reports_what_is_missing_with_exit_code_1(
    naiad: Naiad, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NAIAD_BACKEND_DIRECTORY", str(tmp_path))
    result = naiad("serve")
    assert result.code == 1
    assert "run `make core`" in result.err
    assert result.err.count("\n") == 1
