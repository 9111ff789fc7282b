"""The generation service with a policy, on a scripted engine."""

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2
from naiad.v1 import common_pb2, generation_pb2_grpc
from naiad.v1 import generation_pb2 as pb

from services.common.setting import SettingsError
from services.common.settings import GenerationSettings
from services.common.tokenizer import TextTokenizer
from services.generation.app import build
from tests.support.fake_triton import FakeTriton
from tests.support.generation_stack import CONTEXT_TOKENS, Stack, events_of, failure_of, says, stopped, text_of
from tests.support.running_service import running, wait_for_health
from tests.support.small_models import CHAT_TEMPLATE, bert_tokenizer, byte_level_tokenizer, write_model

WORD = "hello"
ServeWith = Callable[..., Any]


def policy(action: str, *sides: str, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "word_lists": {"greetings": [WORD]},
        "rules": {"no_greetings": {"word_list": "greetings", "action": action}},
        "models": {"*": {side: ["no_greetings"] for side in sides}},
        **more,
    }


@pytest.fixture
def serve(tmp_path: Path) -> ServeWith:
    """Serves with a policy."""
    repository = tmp_path / "repository"
    repository.mkdir()
    tokenizer = byte_level_tokenizer()
    write_model(
        repository,
        "chat",
        "generate",
        tokenizer,
        chat_template=CHAT_TEMPLATE,
        context_length_tokens=CONTEXT_TOKENS,
    )
    write_model(repository, "embed", "embed", bert_tokenizer())

    @asynccontextmanager
    async def serving(document: dict[str, Any]) -> AsyncIterator[Stack]:
        path = tmp_path / "policy.json"
        path.write_text(json.dumps(document))
        fake = FakeTriton()
        await fake.start()
        settings = GenerationSettings(
            model_repository=repository,
            triton_address=fake.address,
            triton_probe_interval_ms=20,
            canary_interval_ms=0,  # tests count what the fake engine is asked
            safety_policy=str(path),
        )
        async with running(build(settings), settings) as (server, channel):
            await wait_for_health(channel, "", health_pb2.HealthCheckResponse.SERVING)
            stub = generation_pb2_grpc.GenerationServiceStub(channel)
            yield Stack(fake, stub, channel, TextTokenizer(byte_level_tokenizer()), server.endpoints.metrics_port)
        await fake.die()

    return serving


def prompts(text: str) -> list[dict[str, Any]]:
    """The same prompt in each of the ways to give it, with the field that is wrong."""
    ids = TextTokenizer(byte_level_tokenizer()).encode_ids(text)
    chat = common_pb2.Chat(messages=[common_pb2.ChatMessage(role="user", content=text)])
    return [{"text": text}, {"chat": chat}, {"token_ids": common_pb2.TokenIds(ids=ids)}]


@pytest.mark.parametrize("way", range(3))
async def test_a_blocked_prompt_never_reaches_the_engine(serve: ServeWith, way: int) -> None:
    async with serve(policy("block", "prompt")) as stack:
        fields = prompts("say HELLO now")[way]
        for call in (
            stack.stub.Generate(pb.GenerateRequest(model="chat", **fields)),
            stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", **fields)).read(),
        ):
            failure = await failure_of(call)
            assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_BLOCKED")
            assert failure.fields == [("text", "chat.messages[0].content", "token_ids.ids")[way]]
        if way != 1:
            failure = await failure_of(stack.stub.Score(pb.ScoreRequest(model="chat", **fields)))
            assert failure.reason == "CONTENT_BLOCKED"
        assert stack.fake.requests == []


async def test_a_redacted_prompt_is_what_the_engine_gets(serve: ServeWith) -> None:
    async with serve(policy("redact", "prompt")) as stack:
        says(stack, "ok")
        response = pb.ResponseOptions(echo=True)
        answer = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="say hello", response=response))
        assert answer.completions[0].text == "say [removed]ok"
        assert stack.fake.requests[0].inputs["input_ids"] == stack.tokenizer.encode_ids("say [removed]")
        failure = await failure_of(stack.stub.Generate(pb.GenerateRequest(model="chat", **prompts("hello")[2])))
        assert failure.reason == "CONTENT_BLOCKED"


async def test_a_blocked_answer_ends_before_the_word_and_frees_the_engine(serve: ServeWith) -> None:
    async with serve(policy("block", "answer")) as stack:
        says(stack, "well, hello there", wait_for_stop=True)
        answer = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
        (completion,) = answer.completions
        assert (completion.text, completion.finish_reason) == ("well, ", pb.FINISH_REASON_CONTENT_FILTER)
        assert list(completion.safety_rules) == ["no_greetings"]
        await stopped(stack, 1)


async def test_a_stream_shows_nothing_of_a_blocked_word(serve: ServeWith) -> None:
    async with serve(policy("block", "answer")) as stack:
        says(stack, "well, hello.")
        events = await events_of(stack.stub.GenerateStream(pb.GenerateStreamRequest(model="chat", text="x")))
        assert text_of(events) == "well, "
        (finished,) = [event.finished for event in events if event.HasField("finished")]
        assert finished.finish_reason == pb.FINISH_REASON_CONTENT_FILTER
        assert list(finished.safety_rules) == ["no_greetings"]


@pytest.mark.parametrize(("action", "text"), [("redact", "well, [removed]."), ("flag", "well, hello.")])
async def test_an_answer_that_goes_on_names_the_rule_and_is_counted(serve: ServeWith, action: str, text: str) -> None:
    async with serve(policy(action, "answer")) as stack:
        says(stack, "well, hello.")
        answer = await stack.stub.Generate(pb.GenerateRequest(model="chat", text="x"))
        (completion,) = answer.completions
        assert (completion.text, completion.finish_reason) == (text, pb.FINISH_REASON_LENGTH)
        assert list(completion.safety_rules) == ["no_greetings"]
        url = f"http://127.0.0.1:{stack.metrics_port}/metrics"
        page = await asyncio.to_thread(lambda: urllib.request.urlopen(url).read().decode())
        labels = f'action="{action}",model="chat",rule="no_greetings",side="answer"'
        assert f"naiad_safety_actions_total{{{labels}}} 1.0" in page


async def test_what_would_show_hidden_text_is_refused(serve: ServeWith) -> None:
    response = pb.ResponseOptions(logprobs=True, return_token_ids=True)
    request = pb.GenerateRequest(model="chat", text="x", response=response)
    async with serve(policy("redact", "answer")) as stack:
        failure = await failure_of(stack.stub.Generate(request))
        assert failure.fields == ["response.return_token_ids", "response.logprobs"]
    async with serve(policy("flag", "answer")) as stack:
        ids = stack.tokenizer.encode_ids("hello")
        says(stack, "hello", logprobs=[-0.5] * len(ids))
        assert list((await stack.stub.Generate(request)).completions[0].token_ids) == ids


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": {"chta": {"prompt": ["no_greetings"]}}}, "models.chta: there is no such model that generates"),
        ({"models": {"embed": {"prompt": ["no_greetings"]}}}, "models.embed: there is no such model that generates"),
        (
            {"rules": {"no_greetings": {"classifier": "embed", "thresholds": {"x": 1}, "action": "flag"}}},
            "rules.no_greetings.classifier: there is no classification model 'embed'",
        ),
    ],
)
async def test_a_policy_for_what_does_not_exist_keeps_the_service_from_starting(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    write_model(tmp_path, "chat", "generate", byte_level_tokenizer())
    write_model(tmp_path, "embed", "embed", bert_tokenizer())
    path = tmp_path / "policy.json"
    path.write_text(json.dumps(policy("block", "prompt", **changes)))
    with pytest.raises(SettingsError, match=message):
        build(GenerationSettings(model_repository=tmp_path, safety_policy=str(path)))
