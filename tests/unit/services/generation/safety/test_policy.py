"""What a policy may say."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from services.generation.safety.policy import Action, PolicyError, load_policy, read_policy

GOOD: dict[str, Any] = {
    "version": 1,
    "word_lists": {"names": ["Voldemort", "the dark lord"]},
    "rules": {
        "no_names": {"word_list": "names", "action": "redact", "replacement": "***"},
        "kind": {"classifier": "sentiment", "thresholds": {"negative": 0.9}, "action": "block"},
    },
    "models": {"chat": {"prompt": ["no_names"], "answer": ["no_names", "kind"]}, "*": {"answer": ["kind"]}},
}


def test_a_good_policy_is_read() -> None:
    policy = read_policy(GOOD)
    names, kind = policy.of_model("chat").answer
    assert (names.action, names.words, names.replacement) == (Action.REDACT, ("Voldemort", "the dark lord"), "***")
    assert (kind.classifier, kind.thresholds) == ("sentiment", {"negative": 0.9})
    assert policy.of_model("other").answer == (kind,)
    assert policy.of_model("other").prompt == ()


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 2, "version: 2 is not 1"),
        (("mode",), 1, "policy: unknown field 'mode'"),
        (("word_lists", "names"), [], "word_lists.names: is not a list of 1 to"),
        (("word_lists", "names"), ["x", " "], r"word_lists.names\[1\]: is not a text"),
        (("rules",), {}, "rules: 0 rules"),
        (("rules", "kind", "treshold"), 1, "rules.kind: unknown field 'treshold'"),
        (("rules", "kind", "action"), "stop", "rules.kind.action: 'stop' is none of block, redact, flag"),
        (("rules", "kind", "replacement"), "x", "rules.kind.replacement: only for redact"),
        (("rules", "kind", "word_list"), "names", "rules.kind: needs word_list or classifier, one of them"),
        (("rules", "kind", "thresholds"), {}, "rules.kind.thresholds: names no label"),
        (("rules", "kind", "thresholds"), {"negative": 0}, "rules.kind.thresholds.negative: 0 is not a number"),
        (("rules", "kind", "thresholds"), {"negative": True}, "rules.kind.thresholds.negative: True is not a number"),
        (("rules", "no_names", "word_list"), "none", "rules.no_names.word_list: there is no list 'none'"),
        (("rules", "no_names", "thresholds"), {}, "rules.no_names.thresholds: only for a classifier"),
        (("rules", "spare"), {"word_list": "names", "action": "flag"}, "rules.spare: no model uses it"),
        (("models",), {}, "models: names no model"),
        (("models", "chat", "answers"), [], "models.chat: unknown field 'answers'"),
        (("models", "chat", "prompt"), ["none"], r"models.chat.prompt\[0\]: there is no rule 'none'"),
        (("models", "chat", "prompt"), ["kind", "kind"], "models.chat.prompt: names a rule twice"),
        (("models", "chat", "prompt"), "kind", "models.chat.prompt: is not a list"),
    ],
)
def test_what_is_wrong_is_named(path: tuple[str, ...], value: Any, message: str) -> None:
    document = copy.deepcopy(GOOD)
    target = document
    for name in path[:-1]:
        target = target[name]
    target[path[-1]] = value
    with pytest.raises(PolicyError, match=message):
        read_policy(document)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not JSON"),
        ('{"version": 1, "version": 1}', "'version' is given twice"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "policy: is missing or not an object"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(PolicyError, match=message):
        load_policy(path)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        load_policy(path)
    path.write_text(json.dumps(GOOD))
    assert load_policy(path) == read_policy(GOOD)
