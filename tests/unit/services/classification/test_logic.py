"""Classify and Embed without gRPC: tokens in, engine faked, results out."""

import asyncio

import numpy as np
import pytest

from services.classification.classify_logic import ClassifyOptions, Scored
from services.classification.embed_logic import Embedded, EmbedOptions
from services.common.bounds import MAX_TEXT_BYTES
from services.common.errors import NaiadError, Reason
from tests.unit.services.classification.conftest import Logic, MakeLogic
from tests.unit.services.classification.tiny_encoders import FakeChannel

RAW = EmbedOptions(normalize=False)


def vectors(outcome: Embedded | NaiadError) -> list[list[float]]:
    assert isinstance(outcome, Embedded), outcome
    return outcome.vectors.tolist()


def error(outcome: object) -> NaiadError:
    assert isinstance(outcome, NaiadError), outcome
    return outcome


async def test_each_text_gets_its_own_scores_best_first(logic: Logic) -> None:
    outcomes, _ = await logic.classify("sentiment", ["one", "two three"], ClassifyOptions(), "texts")
    assert outcomes == [
        Scored([("sum", 1, 14.0), ("length", 2, 3.0), ("first", 0, 1.0)], tokens=3),
        Scored([("sum", 1, 28.0), ("length", 2, 4.0), ("first", 0, 1.0)], tokens=4),
    ]


async def test_a_pair_is_read_together_and_its_second_text_has_its_own_type(logic: Logic) -> None:
    (outcome,), _ = await logic.classify("sentiment", [("one", "two")], ClassifyOptions(top_k=1), "pairs")
    # [CLS] one [SEP] two [SEP]: ids sum to 28, and the last two have type 1.
    assert outcome == Scored([("sum", 1, 228.0)], tokens=5)


async def test_more_labels_than_there_are_gives_all(logic: Logic) -> None:
    (outcome,), _ = await logic.classify("sentiment", ["one"], ClassifyOptions(top_k=99), "texts")
    assert isinstance(outcome, Scored)
    assert len(outcome.scores) == 3


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
async def test_an_activation_that_was_asked_for_wins_over_the_checkpoints(logic: Logic, activation: str) -> None:
    (outcome,), _ = await logic.classify("sentiment", ["one"], ClassifyOptions(activation=activation), "texts")
    assert isinstance(outcome, Scored)
    assert all(0 <= score <= 1 for _, _, score in outcome.scores)


async def test_vectors_are_normalized_as_the_checkpoint_says(logic: Logic) -> None:
    (outcome,), _ = await logic.embed("embed", ["one"], EmbedOptions())
    expected = np.array([1, 14, 3]) / np.linalg.norm([1, 14, 3])
    assert np.allclose(vectors(outcome), [expected])


async def test_dimensions_are_cut_before_normalizing(logic: Logic) -> None:
    (outcome,), _ = await logic.embed("embed", ["one"], EmbedOptions(dimensions=2))
    assert np.allclose(vectors(outcome), [np.array([1, 14]) / np.linalg.norm([1, 14])])


async def test_without_pooling_each_token_has_its_hidden_vector_as_it_is(logic: Logic) -> None:
    outcomes, _ = await logic.embed("embed", ["one", "two three"], EmbedOptions(pooling="none"))
    assert vectors(outcomes[0]) == [[1, 0, 0], [11, 0, 1], [2, 0, 2]]
    assert vectors(outcomes[1]) == [[1, 0, 0], [12, 0, 1], [13, 0, 2], [2, 0, 3]]


async def test_pooling_goes_to_the_engine_only_when_it_was_asked_for(logic: Logic, channel: FakeChannel) -> None:
    await logic.embed("embed", ["one"], EmbedOptions())
    await logic.embed("embed", ["one"], EmbedOptions(pooling="cls"))
    assert "pooling" not in channel.requests[0].parameters
    assert channel.requests[1].parameters["pooling"].string_param == "cls"


async def test_a_text_that_is_too_long_does_not_fail_the_others(logic: Logic) -> None:
    long = "one two three four five"
    outcomes, _ = await logic.embed("embed", ["one", long, "x" * (MAX_TEXT_BYTES + 1), "two"], RAW)
    assert vectors(outcomes[0]) == [[1, 14, 3]]
    assert "texts[1]: has 7 tokens, more than the model's 6" in error(outcomes[1]).message
    assert "texts[2]: more than 1048576 bytes" in error(outcomes[2]).message
    assert vectors(outcomes[3]) == [[1, 15, 3]]


async def test_a_long_text_can_be_cut_instead(logic: Logic) -> None:
    (outcome,), _ = await logic.embed(
        "embed", ["one two three four five"], EmbedOptions(normalize=False, truncate=True)
    )
    assert vectors(outcome) == [[1, 1 + 11 + 12 + 13 + 14 + 2, 6]]


async def test_when_every_text_is_bad_the_engine_is_not_asked(logic: Logic, channel: FakeChannel) -> None:
    outcomes, _ = await logic.classify("sentiment", ["one two three four five"], ClassifyOptions(), "texts")
    assert error(outcomes[0]).reason is Reason.INVALID_FIELD
    assert channel.requests == []


async def test_the_part_of_a_pair_that_is_too_large_is_named(logic: Logic) -> None:
    pairs = [("one", "two"), ("one", "x" * (MAX_TEXT_BYTES + 1))]
    outcomes, _ = await logic.classify("sentiment", pairs, ClassifyOptions(), "pairs")
    assert isinstance(outcomes[0], Scored)
    assert error(outcomes[1]).field_violations[0].field == "pairs[1].second"


async def test_many_texts_go_in_packs_that_come_back_in_order(make_logic: MakeLogic, channel: FakeChannel) -> None:
    logic = make_logic(max_pack_tokens=10, max_parallel_packs=2)
    texts = ["one", "two", "three", "four", "five"] * 4
    outcomes, timings = await logic.embed("embed", texts, RAW)
    expected = [[[1.0, 3.0 + word, 3.0]] for word in (11, 12, 13, 14, 15)] * 4
    assert [vectors(outcome) for outcome in outcomes] == expected
    assert len(channel.requests) == 7  # three texts of three tokens each
    assert channel.most_in_flight == 2
    assert timings.compute_us == 70
    assert timings.queue_us >= 7


@pytest.mark.parametrize(
    ("options", "field"), [(EmbedOptions(dimensions=0), "dimensions"), (EmbedOptions(dimensions=4), "dimensions")]
)
async def test_wrong_options_of_embed_are_named(logic: Logic, options: EmbedOptions, field: str) -> None:
    with pytest.raises(NaiadError) as caught:
        await logic.embed("embed", ["one"], options)
    assert caught.value.field_violations[0].field == field


@pytest.mark.parametrize(
    ("texts", "options", "field"),
    [
        ([], ClassifyOptions(), "texts"),
        (["one"], ClassifyOptions(top_k=0), "top_k"),
    ],
)
async def test_wrong_requests_of_classify_are_named(
    logic: Logic, texts: list[str], options: ClassifyOptions, field: str
) -> None:
    with pytest.raises(NaiadError) as caught:
        await logic.classify("sentiment", texts, options, "texts")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.field_violations[0].field == field


async def test_an_unknown_model_and_one_with_another_task_are_told_apart(logic: Logic) -> None:
    with pytest.raises(NaiadError) as unknown:
        await logic.embed("nobody", ["one"], RAW)
    assert unknown.value.reason is Reason.MODEL_NOT_FOUND
    for name in ("sentiment", "chat"):
        with pytest.raises(NaiadError) as wrong:
            await logic.embed(name, ["one"], RAW)
        assert wrong.value.reason is Reason.WRONG_TASK


async def test_a_response_that_would_be_too_large_is_refused_before_it_is_computed(
    make_logic: MakeLogic, channel: FakeChannel
) -> None:
    logic = make_logic(max_bytes=2_000)
    await logic.embed("embed", ["one"] * 10, RAW)
    computed = len(channel.requests)
    with pytest.raises(NaiadError, match=r"texts: the response would take about \d+ bytes, more than 2000: send fewer"):
        await logic.embed("embed", ["one"] * 100, RAW)
    with pytest.raises(NaiadError, match="send fewer texts"):
        await logic.classify("sentiment", ["one"] * 100, ClassifyOptions(), "texts")
    assert len(channel.requests) == computed


async def test_requests_beyond_the_bound_are_refused_and_room_is_given_back(
    make_logic: MakeLogic, channel: FakeChannel
) -> None:
    logic = make_logic(max_requests=1)
    channel.gate = asyncio.Event()
    first = asyncio.create_task(logic.embed("embed", ["one"], RAW))
    await channel.arrived.wait()
    with pytest.raises(NaiadError, match="too many requests") as caught:
        await logic.embed("embed", ["one"], RAW)
    assert caught.value.reason is Reason.OVERLOADED
    assert caught.value.retry_after_ms is not None
    channel.gate.set()
    await first
    await logic.embed("embed", ["one"], RAW)


async def test_tokens_beyond_the_bound_are_refused_unless_nothing_else_runs(
    make_logic: MakeLogic, channel: FakeChannel
) -> None:
    logic = make_logic(max_tokens=4)
    channel.gate = asyncio.Event()
    first = asyncio.create_task(logic.embed("embed", ["one two three"], RAW))
    await channel.arrived.wait()
    with pytest.raises(NaiadError, match="too many tokens"):
        await logic.embed("embed", ["one"], RAW)
    channel.gate.set()
    await first
    await logic.embed("embed", ["one two three"], RAW)


async def test_a_failure_of_the_engine_fails_the_call_and_gives_room_back(
    make_logic: MakeLogic, channel: FakeChannel
) -> None:
    logic = make_logic(max_requests=1, max_tokens=1)
    channel.failure = NaiadError(Reason.ENGINE_UNAVAILABLE, "the engine cannot be reached")
    with pytest.raises(NaiadError) as caught:
        await logic.embed("embed", ["one"], RAW)
    assert caught.value.reason is Reason.ENGINE_UNAVAILABLE
    channel.failure = None
    await logic.embed("embed", ["one"], RAW)


async def test_a_cancelled_call_gives_room_back(make_logic: MakeLogic, channel: FakeChannel) -> None:
    logic = make_logic(max_requests=1, max_tokens=1)
    channel.gate = asyncio.Event()
    call = asyncio.create_task(logic.embed("embed", ["one"], RAW))
    await channel.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    channel.gate.set()
    await logic.embed("embed", ["one"], RAW)


async def test_an_engine_that_stalls_fails_what_waits_for_it(make_logic: MakeLogic, channel: FakeChannel) -> None:
    logic = make_logic()
    channel.gate = asyncio.Event()
    call = asyncio.create_task(logic.embed("embed", ["one"], RAW))
    await channel.arrived.wait()
    logic.client.fail_in_flight()
    with pytest.raises(NaiadError) as caught:
        await call
    assert caught.value.reason is Reason.ENGINE_UNAVAILABLE
    channel.gate.set()
    await logic.embed("embed", ["one"], RAW)


async def test_an_answer_of_the_wrong_shape_is_our_error(make_logic: MakeLogic, channel: FakeChannel) -> None:
    logic = make_logic()
    channel.compute = lambda request, name: np.zeros((1, 2), np.float32)  # type: ignore[method-assign]
    with pytest.raises(NaiadError) as caught:
        await logic.embed("embed", ["one"], RAW)
    assert caught.value.reason is Reason.INTERNAL
