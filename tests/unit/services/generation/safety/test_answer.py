"""A completion under the rules: what is shown, and when."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from services.generation.safety.answer import AnswerGuard
from services.generation.safety.policy import Action, Rule
from services.generation.safety.rules import SideRules
from services.generation.safety.windows import MAX_WINDOW_CHARS, windows_of


class Shouting:
    """Scores a text as loud when it has an exclamation mark; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def scores(self, name: str, texts: Sequence[str]) -> Sequence[Mapping[str, float]]:
        assert name == "shouting"
        self.asked += texts
        return [{"loud": float("!" in text), "quiet": float("!" not in text)} for text in texts]


def words(action: Action, *, name: str = "words", **fields: Any) -> Rule:
    return Rule(name, action, words=("bad", "worse word"), **fields)


def loud(action: Action) -> Rule:
    return Rule("loud", action, classifier="shouting", thresholds={"loud": 0.5})


async def run(rules: Sequence[Rule], pieces: Sequence[str]) -> tuple[list[str], str | None, set[str]]:
    """What is shown after each piece and at the end, the rule that blocked, and the rules that found something."""
    guard = AnswerGuard(SideRules(rules, Shouting()))
    shown: list[str] = []
    found: set[str] = set()
    for piece in [*pieces, None]:
        checked = await (guard.finish() if piece is None else guard.push(piece))
        shown.append(checked.text)
        found |= checked.found.keys()
        if checked.blocked_by is not None:
            return shown, checked.blocked_by, found
    return shown, None, found


@pytest.mark.parametrize(
    ("action", "shown", "blocked"),
    [
        (Action.BLOCK, ["this is ", "", ""], "words"),
        (Action.REDACT, ["this is ", "", "[removed], ", "really"], None),
        (Action.FLAG, ["this is ", "", "bad, ", "really"], None),
    ],
)
async def test_a_word_over_several_pieces(action: Action, shown: list[str], blocked: str | None) -> None:
    pieces = ["this is b", "ad", ", really"]
    result, blocked_by, found = await run([words(action)], pieces)
    assert "".join(result) == "".join(shown)
    assert result[0] == "this is "
    assert (blocked_by, found) == (blocked, {"words"})


async def test_text_without_a_match_is_unchanged() -> None:
    pieces = ["badge ", "worse ", "words wor", "se", " "]
    shown, blocked_by, found = await run([words(Action.BLOCK)], pieces)
    assert ("".join(shown), blocked_by, found) == ("".join(pieces), None, set())


async def test_words_that_overlap_are_redacted_together() -> None:
    rule = Rule("r", Action.REDACT, "#", words=("a b", "b c"))
    shown, _, _ = await run([rule], ["x a b", " c y"])
    assert "".join(shown) == "x # y"


async def test_a_blocking_rule_wins_over_a_redacting_one() -> None:
    shown, blocked_by, _ = await run([words(Action.REDACT, name="mild"), words(Action.BLOCK, name="hard")], ["so bad."])
    assert ("".join(shown), blocked_by) == ("so ", "hard")


@pytest.mark.parametrize(
    ("action", "shown", "blocked"),
    [
        (Action.BLOCK, "It is. ", "loud"),
        (Action.REDACT, "It is. [removed] Well.", None),
        (Action.FLAG, "It is. No way! Well.", None),
    ],
)
async def test_a_classifier_reads_sentences_before_they_are_shown(
    action: Action, shown: str, blocked: str | None
) -> None:
    result, blocked_by, found = await run([loud(action)], ["It is", ". No", " way! ", "Well."])
    assert "".join(result) == shown
    assert (blocked_by, found) == (blocked, {"loud"})
    assert result[0] == ""
    assert result[1] == "It is. "


async def test_what_stands_before_a_blocked_word_is_classified_too() -> None:
    shown, blocked_by, _ = await run([words(Action.BLOCK), loud(Action.BLOCK)], ["Well. Oh! so ", "bad", "."])
    assert ("".join(shown), blocked_by) == ("Well. ", "loud")


async def test_blanks_alone_are_not_classified() -> None:
    classifier = Shouting()
    guard = AnswerGuard(SideRules([loud(Action.BLOCK)], classifier))
    assert (await guard.push("\n\n")).text + (await guard.finish()).text == "\n\n"
    assert classifier.asked == []


def test_windows_are_the_text_and_not_too_long() -> None:
    text = "Pi is 3.14. Yes!\n" + "x" * 1000 + " " + "word " * 200 + "中文。好"
    windows = windows_of(text)
    assert "".join(windows) == text
    assert windows[:2] == ["Pi is 3.14. ", "Yes!\n"]
    assert max(map(len, windows)) <= MAX_WINDOW_CHARS
