"""`naiad classify`, `embed`, `tokenize` and `models`."""

import json

import pytest
from naiad.v1 import classification_pb2

from services.common.errors import invalid_field
from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_services import Answers

pytestmark = pytest.mark.usefixtures("address")


def test_classify_prints_a_table_with_bars(naiad: Naiad, answers: Answers) -> None:
    result = naiad("classify", "A wonderful film.")
    assert result.code == 0
    assert result.out.splitlines()[1:] == [
        "A wonderful film.  positive  0.7500  " + "█" * 15 + "·" * 5,
        "                   negative  0.2500  " + "█" * 5 + "·" * 15,
    ]
    assert answers.requests[0].model == "sentiment"


def test_classify_reads_lines_and_prints_json_lines(naiad: Naiad, answers: Answers) -> None:
    result = naiad("classify", "--json", stdin="one\n\ntwo\n")
    lines = [json.loads(line) for line in result.out.splitlines()]
    assert [line["text"] for line in lines] == ["one", "two"]
    assert lines[0]["scores"][0] == {"label": "positive", "score": 0.75}
    assert list(answers.requests[0].texts) == ["one", "two"]


def test_classify_sends_pairs_and_options(naiad: Naiad, answers: Answers) -> None:
    naiad("classify", "--pair", "a", "b", "--top-k", "1", "--activation", "sigmoid", "--truncate")
    assert answers.requests[0] == classification_pb2.ClassifyRequest(
        model="sentiment",
        pairs=[classification_pb2.TextPair(first="a", second="b")],
        top_k=1,
        activation=classification_pb2.ACTIVATION_SIGMOID,
        truncate=True,
    )


@pytest.mark.parametrize("command", ["classify", "embed"])
def test_one_bad_text_is_reported_beside_the_others_and_fails_the_command(
    naiad: Naiad, answers: Answers, command: str
) -> None:
    answers.item_failure = invalid_field("texts[0]", "has no tokens")
    result = naiad(command, "north", "east")
    assert result.code == 1
    assert "INVALID_ARGUMENT: texts[0]: has no tokens" in result.err
    assert result.out
    as_json = naiad(command, "--json", "north", "east")
    assert as_json.code == 1
    lines = [json.loads(line) for line in as_json.out.splitlines()]
    assert "has no tokens" in lines[0]["error"]
    assert "error" not in lines[1]


def test_embed_prints_one_array_a_text(naiad: Naiad) -> None:
    result = naiad("embed", "east", "northeast")
    assert [json.loads(line) for line in result.out.splitlines()] == [[1.0, 0.0], [0.1, 0.1]]


def test_embed_without_pooling_prints_an_array_of_arrays(naiad: Naiad) -> None:
    assert json.loads(naiad("embed", "--pooling", "none", "east").out) == [[1.0, 0.0], [1.0, 0.0]]


def test_embed_prints_cosines(naiad: Naiad) -> None:
    result = naiad("embed", "--similarity", "east", "north", "northeast")
    rows = [line.split() for line in result.out.splitlines()[1:]]
    assert rows == [
        ["1", "1.0000", "0.0000", "0.7071", "east"],
        ["2", "0.0000", "1.0000", "0.7071", "north"],
        ["3", "0.7071", "0.7071", "1.0000", "northeast"],
    ]


def test_many_texts_are_sent_in_several_calls(naiad: Naiad, answers: Answers) -> None:
    result = naiad("embed", stdin="east\n" * 600)
    assert len(result.out.splitlines()) == 600
    assert [len(request.texts) for request in answers.requests] == [256, 256, 88]


def test_tokenize_prints_ids_and_tokens(naiad: Naiad) -> None:
    assert naiad("tokenize", "Hi").out.splitlines() == ["ID   TOKEN", "72   H", "105  i"]


def test_tokens_round_trip(naiad: Naiad) -> None:
    text = "naïve 🥖 文"
    ids = naiad("tokenize", "--ids", text).out
    assert naiad("tokenize", "--detokenize", stdin=ids).out == text + "\n"


@pytest.mark.parametrize("ids", [["72 105"], ["72,105"], ["[72, 105]"], ["72", "105"]])
def test_ids_may_be_written_in_several_ways(naiad: Naiad, ids: list[str]) -> None:
    assert naiad("tokenize", "--detokenize", *ids).out == "Hi\n"


def test_each_line_of_ids_is_a_text(naiad: Naiad) -> None:
    assert naiad("tokenize", "--detokenize", stdin="72\n105 105\n").out == "H\nii\n"


def test_ids_that_are_none_are_wrong_usage(naiad: Naiad) -> None:
    result = naiad("tokenize", "--detokenize", "72 x")
    assert result.code == 2
    assert "'72 x' is not a list of token ids" in result.err


def test_tokens_are_counted(naiad: Naiad) -> None:
    assert naiad("tokenize", "--count", "abc", "de").out == "3\n2\n"


def test_tokenize_as_json_has_offsets(naiad: Naiad) -> None:
    line = json.loads(naiad("tokenize", "--json", "Hi").out)
    assert line["token_ids"] == [72, 105]
    assert line["offsets"] == [[0, 1], [1, 2]]


def test_models_of_all_services_are_listed_and_the_engines_word_on_readiness_counts(naiad: Naiad) -> None:
    result = naiad("models")
    rows = [line.split() for line in result.out.splitlines()]
    assert rows[0] == ["NAME", "TASK", "ARCHITECTURE", "PRECISION", "CONTEXT", "READY"]
    assert rows[1] == ["chat", "generate", "llama", "int8", "8192", "no"]
    assert [row[0] for row in rows[1:]] == ["chat", "embed", "spare"]
    assert [json.loads(line)["ready"] for line in naiad("models", "--json").out.splitlines()] == [False, True, True]
