"""`naiad entities`, `rerank` and `zero-shot`."""

import json

import pytest
from naiad.v1 import classification_pb2

from services.common.errors import invalid_field
from tests.unit.services.cli.conftest import Naiad
from tests.unit.services.cli.fake_services import Answers

pytestmark = pytest.mark.usefixtures("address")

THREE_QUARTERS = "█" * 15 + "·" * 5


def test_entities_are_a_table_with_bars(naiad: Naiad, answers: Answers) -> None:
    result = naiad("entities", "Ada saw Paris", "nothing")
    assert result.code == 0
    assert result.out.splitlines() == [
        "TEXT           WHERE  ENTITY  LABEL  SCORE",
        f"Ada saw Paris  0-3    Ada     PER    0.7500  {THREE_QUARTERS}",
        "nothing",
    ]
    assert answers.requests[0].model == "entities"


def test_entities_as_json_have_spans(naiad: Naiad) -> None:
    lines = [json.loads(line) for line in naiad("entities", "--json", stdin="Zoë saw\n\nnothing\n").out.splitlines()]
    assert lines == [
        {
            "text": "Zoë saw",
            "entities": [
                {"label": "PER", "text": "Zoë", "score": 0.75, "start": 0, "end": 3, "start_byte": 0, "end_byte": 4}
            ],
            "tokens": 4,
        },
        {"text": "nothing", "entities": [], "tokens": 4},
    ]


def test_entities_sends_its_options(naiad: Naiad, answers: Answers) -> None:
    options = ["--merge", "words", "--min-score", "0.5", "--include-outside", "--window-overlap", "8", "-m", "names"]
    naiad("entities", *options, "a")
    assert answers.requests[0] == classification_pb2.ClassifyTokensRequest(
        model="names",
        texts=["a"],
        merge=classification_pb2.ENTITY_MERGE_WORDS,
        min_score=0.5,
        include_outside=True,
        window_overlap_tokens=8,
    )
    naiad("entities", "--truncate", "a")
    assert answers.requests[1].truncate
    assert not answers.requests[1].HasField("window_overlap_tokens")


def test_documents_are_ranked_best_first(naiad: Naiad, answers: Answers) -> None:
    result = naiad("rerank", "question", "short", "the longest one")
    assert result.code == 0
    assert result.out.splitlines() == [
        "RANK  SCORE                         DOCUMENT",
        f"1     0.7500  {THREE_QUARTERS}  the longest one",
        f"2     0.2500  {'█' * 5 + '·' * 15}  short",
    ]
    assert answers.requests[0] == classification_pb2.RerankRequest(
        model="embed", query="question", documents=["short", "the longest one"]
    )


def test_documents_of_several_calls_are_one_ranking(naiad: Naiad, answers: Answers) -> None:
    lines = "".join(f"{'x' * (1 + i % 40)}\n" for i in range(600))
    result = naiad("rerank", "--json", "--top-k", "20", "--truncate", "question", "-", stdin=lines)
    found = [json.loads(line) for line in result.out.splitlines()]
    assert [len(request.documents) for request in answers.requests] == [256, 256, 88]
    assert all(request.top_k == 20 and request.truncate for request in answers.requests)
    assert [line["index"] for line in found] == [*range(39, 600, 40), *range(38, 200, 40)]
    assert all(len(line["document"]) == round(20 * line["score"]) for line in found)


def test_no_document_may_be_asked_for(naiad: Naiad) -> None:
    result = naiad("rerank", "--top-k", "0", "question", "a")
    assert result.code == 2
    assert "--top-k: 0 is less than 1" in result.err


def test_labels_of_the_call_are_scored(naiad: Naiad, answers: Answers) -> None:
    result = naiad("zero-shot", "-l", "sports", "--label", "politics", "-l", "food", "A match.")
    assert result.code == 0
    assert result.out.splitlines() == [
        "TEXT      LABEL     SCORE   BY EMBEDDING",
        f"A match.  food      0.7500  {THREE_QUARTERS}",
        f"          politics  0.5000  {'█' * 10 + '·' * 10}",
        f"          sports    0.2500  {'█' * 5 + '·' * 15}",
    ]
    assert answers.requests[0] == classification_pb2.ClassifyZeroShotRequest(
        model="embed", texts=["A match."], labels=["sports", "politics", "food"]
    )


def test_zero_shot_sends_its_options_and_prints_json(naiad: Naiad, answers: Answers) -> None:
    options = ["--json", "-l", "a", "--template", "It is {}.", "--multi-label", "--truncate", "-m", "nli"]
    result = naiad("zero-shot", *options, stdin="one\ntwo\n")
    lines = [json.loads(line) for line in result.out.splitlines()]
    expected = {"scores": [{"label": "a", "score": 0.25}], "method": "embedding", "tokens": 6}
    assert lines == [{"text": text, **expected} for text in ("one", "two")]
    assert answers.requests[0] == classification_pb2.ClassifyZeroShotRequest(
        model="nli",
        texts=["one", "two"],
        labels=["a"],
        hypothesis_template="It is {}.",
        multi_label=True,
        truncate=True,
    )


def test_zero_shot_without_labels_is_wrong_usage(naiad: Naiad) -> None:
    result = naiad("zero-shot", "a text")
    assert result.code == 2
    assert "no label: give some with --label" in result.err


@pytest.mark.parametrize("command", [["entities"], ["zero-shot", "-l", "a"], ["rerank", "question"]])
def test_one_bad_text_is_reported_beside_the_others_and_fails_the_command(
    naiad: Naiad, answers: Answers, command: list[str]
) -> None:
    answers.item_failure = invalid_field("texts[0]", "is too long")
    result = naiad(*command, "north", "east")
    assert result.code == 1
    assert "naiad: 'north': INVALID_ARGUMENT: texts[0]: is too long" in result.err
    assert "east" in result.out and "north" not in result.out
    as_json = naiad(command[0], "--json", *command[1:], "north", "east")
    assert as_json.code == 1
    errors = [line["error"] for line in map(json.loads, as_json.out.splitlines()) if "error" in line]
    assert len(errors) == 1 and "is too long" in errors[0]


@pytest.mark.parametrize("command", [["entities"], ["zero-shot", "-l", "a"], ["rerank", "question"]])
def test_a_refused_call_is_one_line(naiad: Naiad, answers: Answers, command: list[str]) -> None:
    answers.failure = invalid_field("texts", "too many")
    result = naiad(*command, "north")
    assert result.code == 1
    assert result.err == "naiad: classification: INVALID_ARGUMENT: texts: too many\n"
