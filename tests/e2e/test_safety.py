"""The safety stage on the real stack. `sentiment` stands in for a moderation model: no model of the demo is one."""

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from naiad.v1 import generation_pb2 as pb

from services import client
from tests.support.engine_metrics import scrape
from tests.support.models import demo_model, exact_chat, repository_of
from tests.support.stack import Stack, running_stack

pytestmark = pytest.mark.e2e

POLICY = {
    "version": 1,
    "word_lists": {"capitals": ["paris"], "reserved": ["wonderful sunny"]},
    "rules": {
        "no_capitals": {"word_list": "capitals", "action": "redact", "replacement": "[city]"},
        "not_reserved": {"word_list": "reserved", "action": "block"},
        "friendly": {"classifier": "sentiment", "thresholds": {"negative": 0.9}, "action": "block"},
    },
    "models": {"chat": {"prompt": ["friendly"], "answer": ["no_capitals", "not_reserved"]}},
}
CAPITAL = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}
GREEDY = {"temperature": 0}


@pytest.fixture(scope="module")
def safe_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("safety")
    (folder / "policy.json").write_text(json.dumps(POLICY))
    repository = repository_of([exact_chat(), demo_model("sentiment")], "safety")
    with running_stack(repository, folder, NAIAD_SAFETY_POLICY=str(folder / "policy.json")) as running:
        yield running


@pytest.fixture
def naiad(safe_stack: Stack) -> Iterator[client.Client]:
    with client.connect(safe_stack.address("generation")) as connected:
        yield connected


def test_a_word_is_redacted_in_the_answer_and_in_every_event_of_the_stream(
    safe_stack: Stack, naiad: client.Client
) -> None:
    stopping = {"max_tokens": 20}
    answer = naiad.generate(model="chat", chat=CAPITAL, sampling=GREEDY, stopping=stopping)
    (completion,) = answer.completions
    assert "Paris" not in completion.text
    assert "[city]" in completion.text
    assert list(completion.safety_rules) == ["no_capitals"]
    events = list(naiad.stream(model="chat", chat=CAPITAL, sampling=GREEDY, stopping=stopping))
    texts = [event.delta.text for event in events if event.HasField("delta")]
    assert "".join(texts) == completion.text
    assert len(texts) > 2
    labels = 'action="redact",model="chat",rule="no_capitals",side="answer"'
    assert f"naiad_safety_actions_total{{{labels}}} 2.0" in scrape(safe_stack.metrics_ports["generation"])


def test_a_blocked_phrase_ends_the_stream_before_its_first_word(naiad: client.Client) -> None:
    prompt = "I love these wonderful sunny days. " * 4
    events = list(naiad.stream(model="chat", text=prompt, sampling=GREEDY, stopping={"max_tokens": 40}))
    text = "".join(event.delta.text for event in events)
    (finished,) = [event.finished for event in events if event.HasField("finished")]
    assert finished.finish_reason == pb.FINISH_REASON_CONTENT_FILTER
    assert list(finished.safety_rules) == ["not_reserved"]
    assert "wonderful" not in text.lower()


def test_a_classifier_of_the_repository_refuses_a_prompt(naiad: client.Client) -> None:
    stopping = {"max_tokens": 1}
    with pytest.raises(client.ContentBlockedError) as caught:
        naiad.generate(model="chat", text="This film is a terrible, boring mess. I hated it.", stopping=stopping)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [violation.field for violation in caught.value.field_violations] == ["text"]
    answer = naiad.generate(model="chat", text="This film is wonderful. I loved it.", stopping=stopping)
    assert len(answer.completions) == 1
