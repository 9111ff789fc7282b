"""`naiad generate` and `naiad score`."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from naiad.v1 import generation_pb2

from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_services import PIECES, Answers

TEXT = "".join(PIECES)
REPOSITORY_ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.usefixtures("address")


def test_text_is_streamed_and_ends_with_a_line_end(naiad: Naiad, answers: Answers) -> None:
    result = naiad("generate", "The capital of France")
    assert (result.code, result.out, result.err) == (0, TEXT + "\n", "")
    (request,) = answers.requests
    assert isinstance(request, generation_pb2.GenerateStreamRequest)
    assert (request.model, request.text) == ("chat", "The capital of France")


def test_what_was_not_asked_for_is_left_to_the_service(naiad: Naiad, answers: Answers) -> None:
    naiad("generate", "x")
    (request,) = answers.requests
    assert request.sampling == generation_pb2.SamplingOptions(temperature=0)
    assert request.stopping == generation_pb2.StoppingOptions()
    assert request.response == generation_pb2.ResponseOptions()
    assert not any(request.HasField(name) for name in ("priority", "use_prefix_cache", "guide"))


def test_every_option_reaches_its_field(naiad: Naiad, answers: Answers) -> None:
    words = "--temperature 0.5 --top-p 0.5 --top-k 4 --min-p 0.25 --repetition-penalty 1.5 --presence-penalty -1"
    words += " --frequency-penalty 2 --seed 18446744073709551615 --max-tokens 0 --min-tokens 1 --stop . --stop ;"
    words += " --stop-token-id 3 --ignore-eos --echo --logprobs --top-logprobs 2 --model other"
    words += " --priority -5 --no-prefix-cache --json-object"
    assert naiad("generate", "x", *words.split()).code == 0
    (request,) = answers.requests
    assert request == generation_pb2.GenerateStreamRequest(
        model="other",
        text="x",
        sampling=generation_pb2.SamplingOptions(
            temperature=0.5,
            top_p=0.5,
            top_k=4,
            min_p=0.25,
            repetition_penalty=1.5,
            presence_penalty=-1,
            frequency_penalty=2,
            seed=2**64 - 1,
        ),
        stopping=generation_pb2.StoppingOptions(
            max_tokens=0, min_tokens=1, stop=[".", ";"], stop_token_ids=[3], ignore_eos=True
        ),
        response=generation_pb2.ResponseOptions(echo=True, logprobs=True, top_logprobs=2),
        priority=-5,
        use_prefix_cache=False,
        guide=generation_pb2.Guide(json_object=True),
    )


def test_a_schema_is_a_file_or_the_text_itself(naiad: Naiad, answers: Answers, tmp_path: Path) -> None:
    schema = '{"type": "string", "title": "é"}'
    file = tmp_path / "schema.json"
    file.write_text(schema, encoding="utf-8")
    for argument in (str(file), f" {schema}"):
        assert naiad("generate", "x", "--json-schema", argument).code == 0
        assert answers.requests.pop().guide.json_schema.strip() == schema


def test_a_regular_expression_is_a_guide(naiad: Naiad, answers: Answers) -> None:
    assert naiad("generate", "x", "--regex", "[0-9]+").code == 0
    assert answers.requests[0].guide == generation_pb2.Guide(regex="[0-9]+")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_schema_that_cannot_be_read_is_named(naiad: Naiad, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "schema.json"
    if content is not None:
        file.write_bytes(content)
    result = naiad("generate", "x", "--json-schema", str(file))
    assert result.code == 2
    assert result.err.startswith(f"naiad: --json-schema: {file}: ")


def test_a_text_has_one_guide(naiad: Naiad) -> None:
    assert naiad("generate", "x", "--regex", "a", "--json-object").code == 2


@pytest.mark.parametrize(("words", "roles"), [(["--chat"], ["user"]), (["--system", "Be brief."], ["system", "user"])])
def test_a_chat_is_sent_as_messages(naiad: Naiad, answers: Answers, words: list[str], roles: list[str]) -> None:
    naiad("generate", *words, "Hello")
    (request,) = answers.requests
    assert [message.role for message in request.chat.messages] == roles
    assert request.chat.messages[-1].content == "Hello"


@pytest.mark.parametrize("words", [[], ["-"]])
def test_the_prompt_can_come_from_standard_input(naiad: Naiad, answers: Answers, words: list[str]) -> None:
    naiad("generate", *words, stdin="two\nlines\n")
    assert answers.requests[0].text == "two\nlines\n"


def test_json_is_the_whole_response(naiad: Naiad) -> None:
    result = naiad("generate", "--json", "x")
    response = json.loads(result.out)
    assert response["completions"][0]["text"] == TEXT
    assert response["usage"]["completion_tokens"] == 5


def test_json_of_a_stream_is_one_event_a_line(naiad: Naiad) -> None:
    result = naiad("generate", "--json", "--stream", "x")
    events = [json.loads(line) for line in result.out.splitlines()]
    assert [next(iter(event)) for event in events] == ["started", *["delta"] * 3, "finished", "summary"]


def test_several_completions_are_numbered_and_not_streamed(naiad: Naiad, answers: Answers) -> None:
    result = naiad("generate", "-n", "2", "x")
    assert result.out == f"[0] {TEXT}\n[1] {TEXT}\n"
    assert isinstance(answers.requests[0], generation_pb2.GenerateRequest)


def test_several_completions_cannot_be_streamed_as_text(naiad: Naiad, answers: Answers) -> None:
    assert naiad("generate", "--stream", "-n", "2", "x").code == 2
    assert answers.requests == []


def test_no_stream_prints_the_same_text(naiad: Naiad) -> None:
    assert naiad("generate", "--no-stream", "x").out == TEXT + "\n"


def test_timings_go_to_standard_error(naiad: Naiad) -> None:
    result = naiad("generate", "--timings", "x")
    assert result.out == TEXT + "\n"
    assert "7 prompt tokens (2 cached), 5 new" in result.err
    assert "first token 25.0 ms" in result.err
    assert "10.0 tokens/s" in result.err  # four tokens after the first, in 400 ms


def test_ctrl_c_ends_the_call_and_exits_with_130(answers: Answers, address: str) -> None:
    answers.hang = True
    answers.stream_ended = threading.Event()
    with subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "generate", "--address", address, "x"],
        cwd=REPOSITORY_ROOT,
        env={"PYTHONPATH": f"{REPOSITORY_ROOT}:{REPOSITORY_ROOT / 'protos'}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        printed = b""
        while not printed.endswith(TEXT.encode()):
            printed += process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=30)
    assert (process.returncode, rest, errors) == (130, b"\n", b"")
    assert answers.stream_ended.wait(timeout=30)


def test_score_prints_each_token_and_the_perplexity(naiad: Naiad) -> None:
    result = naiad("score", "--top", "1", "in Paris")
    assert result.code == 0
    assert "' Paris'  -0.5000  ' Rome' -1.500" in result.out
    assert "2 tokens, log-probability -0.5000, perplexity 1.6487" in result.out


def test_score_as_json(naiad: Naiad) -> None:
    assert json.loads(naiad("score", "--json", "x").out)["token_ids"] == [4, 5]
