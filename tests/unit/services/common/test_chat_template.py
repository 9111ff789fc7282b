import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.chat_template import ChatTemplateRenderer, Message
from services.common.errors import NaiadError, Reason

RECORDED = Path(__file__).with_name("chat_renderings.json")


@pytest.fixture
async def renderer() -> AsyncIterator[ChatTemplateRenderer]:
    renderer = ChatTemplateRenderer(timeout_ms=2000)
    yield renderer
    await renderer.close()


async def render(renderer: ChatTemplateRenderer, template: str, content: str = "hi") -> str:
    return await renderer.render(template, [Message("user", content)], True, {"eos_token": "</s>"}, "messages")


@pytest.mark.parametrize("case", json.loads(RECORDED.read_text(encoding="utf-8")), ids=lambda case: case["name"])
async def test_renderings_equal_those_of_transformers(renderer: ChatTemplateRenderer, case: dict) -> None:
    messages = [Message(**message) for message in case["messages"]]
    text = await renderer.render(
        case["template"], messages, case["add_generation_prompt"], case["special_tokens"], "messages"
    )
    assert text == case["text"]


async def test_a_refusal_of_the_template_is_told_to_the_client(renderer: ChatTemplateRenderer) -> None:
    with pytest.raises(NaiadError) as caught:
        await render(renderer, "{{ raise_exception('roles must alternate') }}")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert "roles must alternate" in caught.value.message


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{% include '/etc/passwd' %}",
        "{{ no_such_function() }}",
        "{% if %}",
    ],
)
async def test_what_the_sandbox_forbids_fails_inside(renderer: ChatTemplateRenderer, template: str) -> None:
    with pytest.raises(NaiadError) as caught:
        await render(renderer, template)
    assert caught.value.reason is Reason.INTERNAL


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10 ** 10 }}",
        "{% set ns = namespace(x='xxxxxxxxxx') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% for i in range(9999) %}{{ 'x' * 1000 }}{% endfor %}",
    ],
    ids=["time", "one string", "doubling", "output"],
)
async def test_a_template_that_needs_too_much_is_ended_and_the_next_one_works(template: str) -> None:
    renderer = ChatTemplateRenderer(timeout_ms=700)
    try:
        with pytest.raises(NaiadError) as caught:
            await render(renderer, template)
        assert caught.value.reason is Reason.INVALID_FIELD
        assert await render(renderer, "{{ messages[0].content }}") == "hi"
    finally:
        await renderer.close()


async def test_answers_are_not_mixed_up_when_a_caller_leaves(renderer: ChatTemplateRenderer) -> None:
    await renderer.start()
    left = asyncio.create_task(render(renderer, "{{ messages[0].content }}", "first"))
    await asyncio.sleep(0)
    left.cancel()
    assert await render(renderer, "{{ messages[0].content }}", "second") == "second"


async def test_long_conversations_in_any_script_pass(renderer: ChatTemplateRenderer) -> None:
    content = "中\u0000\u2028👍" * 100_000
    assert await render(renderer, "{{ messages[0].content }}", content) == content
