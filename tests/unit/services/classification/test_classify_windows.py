"""Classify over texts longer than the model's limit."""

import sys
from typing import Any

import pytest

from services.classification.classify_logic import ClassifyOptions, Scored
from services.classification.long_texts import read_in_windows
from services.common.errors import NaiadError
from services.common.text_models import TextModels
from tests.unit.services.classification.conftest import MakeLogic
from tests.unit.services.classification.tiny_encoders import FakeChannel


def sums(outcome: Scored | NaiadError) -> float:
    assert isinstance(outcome, Scored), outcome
    return next(score for label, _, score in outcome.scores if label == "sum")


async def test_logits_of_windows_count_by_their_new_tokens(make_logic: MakeLogic, channel: FakeChannel) -> None:
    options = ClassifyOptions(window_overlap_tokens=1)
    texts = ["one", "one two three four five one two three", "two"]
    outcomes, _ = await make_logic().classify("sentiment", texts, options, "texts")
    # Windows of four words, special tokens of 3 in each: 11+12+13+14, 14+15+11+12, 12+13; new 4, 3, 1.
    expected = (4 * (50 + 3) + 3 * (52 + 3) + 1 * (25 + 3)) / 8
    assert [sums(outcome) for outcome in outcomes] == [14.0, pytest.approx(expected), 15.0]
    assert [outcome.tokens for outcome in outcomes if isinstance(outcome, Scored)] == [3, 10, 3]
    assert len(channel.requests) == 1


async def test_without_overlap_windows_stand_side_by_side(make_logic: MakeLogic) -> None:
    options = ClassifyOptions(window_overlap_tokens=0)
    (outcome,), _ = await make_logic().classify("sentiment", ["one two three four five"], options, "texts")
    assert sums(outcome) == pytest.approx((4 * 53 + 1 * 18) / 5)


async def test_activation_comes_after_the_mean(make_logic: MakeLogic) -> None:
    options = ClassifyOptions(window_overlap_tokens=0, activation="softmax")
    (outcome,), _ = await make_logic().classify("sentiment", ["one two three four five"], options, "texts")
    assert isinstance(outcome, Scored)
    assert sum(score for _, _, score in outcome.scores) == pytest.approx(1)


@pytest.mark.parametrize(
    ("items", "options", "field"),
    [
        (["one"], {"window_overlap_tokens": -1}, "window_overlap_tokens"),
        (["one"], {"window_overlap_tokens": 4}, "window_overlap_tokens"),
        (["one"], {"window_overlap_tokens": 1, "truncate": True}, "window_overlap_tokens"),
        ([("one", "two")], {"window_overlap_tokens": 1}, "window_overlap_tokens"),
    ],
)
async def test_wrong_windows_are_named(
    make_logic: MakeLogic, channel: FakeChannel, items: Any, options: dict[str, Any], field: str
) -> None:
    name = "texts" if isinstance(items[0], str) else "pairs"
    with pytest.raises(NaiadError) as caught:
        await make_logic().classify("sentiment", items, ClassifyOptions(**options), name)
    assert caught.value.field_violations[0].field == field
    assert channel.requests == []


async def test_every_token_is_new_in_one_window(text_models: TextModels) -> None:
    model = await text_models.get("sentiment")
    words = 101
    (encoded,) = model.tokenizer.encode(["one " * words], max_length=sys.maxsize)
    for overlap in (0, 1, 2, 3):
        reading = read_in_windows(encoded, 6, overlap)
        assert sum(reading.weights) == words
        assert all(len(run) <= 6 for run in reading.runs)
        assert reading.tokens == words + 2
