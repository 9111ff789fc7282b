"""A Triton that answers probes and does not infer is found out, at no cost to one that does."""

import asyncio
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from services.common.canary import AnswerTimes, Canary, CanarySettings
from services.common.canary_requests import ask_decoder, ask_encoder
from services.common.errors import NaiadError, Reason
from services.common.registry import ModelRegistry
from services.common.triton_client import TritonChannel, TritonStream
from services.common.triton_health import TritonHealth
from tests.support.fake_triton import FakeTriton, Plan, infer_response
from tests.support.small_models import bert_tokenizer, write_model

SETTINGS = CanarySettings(canary_interval_ms=20, canary_timeout_ms=150)


@pytest.fixture
async def health(fake: FakeTriton) -> AsyncIterator[TritonHealth]:
    """Health of one decoder, `chat`, that is probed and asked quickly."""
    channel = TritonChannel(fake.address, retry_after_ms=500)
    stream = TritonStream(channel, max_buffered=8)
    health = TritonHealth(channel, lambda: ["chat"], Canary(channel.answers, ask_decoder(stream), SETTINGS))
    health.on_probe(lambda up: stream.retry_now() if up else None)
    stream.on_break(health.mark_down)
    stream.start()
    health.start(interval_ms=10, timeout_ms=2_000, stall_ms=4_000)
    yield health
    await health.close()
    await stream.close()
    await channel.close()


async def until(health: TritonHealth, condition: Callable[[], bool]) -> None:
    probes: asyncio.Queue[bool] = asyncio.Queue()
    health.on_probe(probes.put_nowait)
    async with asyncio.timeout(10):
        while not condition():
            await probes.get()


async def test_a_model_serves_once_it_has_answered(fake: FakeTriton, health: TritonHealth) -> None:
    assert not health.model_serving("chat")
    await until(health, lambda: health.up)
    assert health.models_serving() == {"chat": True}
    asked = fake.requests[0]
    assert (asked.inputs, asked.options["request_output_len"]) == ({"input_ids": [0]}, 1)
    await until(health, lambda: len(fake.requests) >= 3)  # it goes on while nobody else asks
    assert health.up


async def test_probes_without_answers_are_not_enough(fake: FakeTriton, health: TritonHealth) -> None:
    await until(health, lambda: health.up)
    fake.plan = lambda _: Plan(wait_for_stop=True)
    await until(health, lambda: not health.model_ready("chat"))
    assert not health.up
    assert health.models_serving() == {"chat": False}
    asked = len(fake.requests)
    probes: asyncio.Queue[bool] = asyncio.Queue()
    health.on_probe(probes.put_nowait)
    for _ in range(10):
        assert not await probes.get()
    assert len(fake.requests) == asked, "a silent model is asked again and again"
    fake.plan = lambda _: Plan(tokens=[1])
    fake.send(_late_answer(fake))
    await until(health, lambda: health.up)
    assert fake.stopped_ids == [], "a canary was stopped"


def _late_answer(fake: FakeTriton) -> object:
    from tritonclient.grpc import service_pb2

    end = {"finish_reason": "length", "completion_tokens": 0}
    response = infer_response(fake.requests[-1].id, {"output_ids": np.empty(0, np.int32)}, end, final=True)
    return service_pb2.ModelStreamInferResponse(infer_response=response)


async def test_a_triton_that_comes_back_must_answer_anew(fake: FakeTriton, health: TritonHealth) -> None:
    await until(health, lambda: health.up)
    await fake.die()
    await until(health, lambda: not health.up)
    fake.plan = lambda _: Plan(wait_for_stop=True)
    await fake.start()
    await until(health, lambda: health.model_ready("chat"))
    assert not health.model_serving("chat")


class Asked:
    """Stands for a model: notes how often it was asked, and fails as told."""

    def __init__(self) -> None:
        self.answers = AnswerTimes()
        self.times = 0
        self.failure: NaiadError | None = None

    async def __call__(self, model: str) -> None:
        self.times += 1
        if self.failure is not None:
            raise self.failure
        self.answers.note(model)


async def checked(canary: Canary, rounds: int, each: Callable[[], None] = lambda: None) -> None:
    """Calls check as the probes do, for `rounds` times 10 ms."""
    for _ in range(rounds):
        each()
        canary.check(["m"])
        await asyncio.sleep(0.01)


async def test_under_traffic_no_canary_is_sent() -> None:
    model = Asked()
    canary = Canary(model.answers, model, CanarySettings(canary_interval_ms=10_000))
    await checked(canary, 5, each=lambda: model.answers.note("m"))
    assert model.times == 0
    assert canary.answers("m")


async def test_failures_of_a_model_are_silence_and_a_full_queue_is_not() -> None:
    model = Asked()
    canary = Canary(model.answers, model, SETTINGS)
    model.answers.note("m")
    model.failure = NaiadError(Reason.OVERLOADED, "full")
    await checked(canary, 30)
    assert model.times > 1
    assert canary.answers("m")
    model.failure = NaiadError(Reason.INTERNAL, "broken")
    await checked(canary, 30)
    assert canary.is_silent("m")
    assert not canary.answers("m")
    model.answers.note("m")  # a real answer counts as much
    assert canary.answers("m")


async def test_a_question_that_could_not_be_sent_is_asked_again_at_once() -> None:
    model = Asked()
    canary = Canary(model.answers, model, CanarySettings(canary_interval_ms=10_000))
    model.failure = NaiadError(Reason.ENGINE_UNAVAILABLE, "no stream yet")
    await checked(canary, 3)
    assert not canary.answers("m")
    model.failure = None
    await checked(canary, 2)
    assert canary.answers("m")
    asked = model.times
    await checked(canary, 3)
    assert model.times == asked


async def test_an_interval_of_0_asks_never_and_trusts_the_probes() -> None:
    model = Asked()
    canary = Canary(model.answers, model, CanarySettings(canary_interval_ms=0))
    await checked(canary, 3)
    assert model.times == 0
    assert canary.answers("m")


@pytest.mark.parametrize(
    ("task", "encoder", "output"),
    [("embed", {"uses_token_type_ids": True, "hidden_size": 4}, "embeddings"), ("classify", {}, "logits")],
)
async def test_an_encoder_is_asked_about_one_token(
    fake: FakeTriton, tmp_path, task: str, encoder: dict, output: str
) -> None:
    write_model(tmp_path, "m", task, bert_tokenizer(), changes={"encoder": encoder, "labels": ["a", "b"]})
    fake.infer = lambda _: infer_response("", {output: np.ones((1, 4), np.float32)}, {}, final=False)
    channel = TritonChannel(fake.address, retry_after_ms=500)
    await ask_encoder(channel, ModelRegistry(tmp_path))("m")
    assert channel.answers.last_s("m") > 0
    await channel.close()
    types = {"token_type_ids": [0]} if encoder else {}
    assert fake.requests[0].inputs == {"input_ids": [0], "sequence_lengths": [1], **types}
