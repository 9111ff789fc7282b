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


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''|attr('__class__') }}",
        "{{ messages|map(attribute='__class__')|list }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ '{x.__class__}'.format_map({'x': messages}) }}",
        "{{ ('%(a)s' % {'a': messages.__class__}) }}",
        "{{ self.__init__.__globals__ }}",
        "{{ raise_exception.__globals__ }}",
        "{{ messages.pop.__self__.__class__ }}",
        "{{ lipsum.__globals__['os'].popen('id').read() }}",
        "{{ joiner.__init__.__globals__ }}",
        "{% set x = namespace() %}{{ x.__class__ }}",
        "{{ messages[0].__getitem__.__func__ }}",
        "{{ (1).__class__.__base__ }}",
        "{% for x in [].__iter__().__class__.__mro__ %}{{ x }}{% endfor %}",
    ],
)
async def test_attributes_of_python_give_nothing_away(renderer: ChatTemplateRenderer, template: str) -> None:
    try:
        text = await render(renderer, template)
    except NaiadError as error:
        text = error.message.partition("SecurityError:")[0]
    for word in ("<class", "object at 0x", "<built-in", "<function", "uid=", "__builtins__"):
        assert word not in text


@pytest.mark.parametrize(
    "template",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        "{{ range(10 ** 9)|list }}",
        "{{ 'x'|center(10 ** 9) }}",
        "{{ '%1000000000s' % 'x' }}",
        "{{ '{:>1000000000}'.format('x') }}",
        "{{ 9 ** (9 ** 9) }}",
        "{{ [0] * 10 ** 9 }}",
        "{{ lipsum(n=10000) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ ([messages] * 999999)|tojson }}",
        "{% set x = 'xxxxxxxxxx' * 1000 %}{% for i in range(99999) %}{{ x }}{% endfor %}",
        "{{ raise_exception('x' * 10 ** 9) }}",
        "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
        "{{ " + "-" * 100_000 + "1 }}",
        "{% if 1 %}" * 5_000 + "{% endif %}" * 5_000,
    ],
)
async def test_no_template_takes_the_service_along(template: str) -> None:
    """Whether it is refused or fails is free; the next conversation is rendered, and soon."""
    renderer = ChatTemplateRenderer(timeout_ms=700)
    try:
        with pytest.raises(NaiadError) as caught:
            await render(renderer, template)
        assert len(caught.value.message) < 2_000
        async with asyncio.timeout(10):
            assert await render(renderer, "{{ messages[0].content }}") == "hi"
    finally:
        await renderer.close()


@pytest.mark.parametrize(
    "content",
    [
        "{{ 7 * 7 }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{% raw %}",
        "#}",
        "{0.__class__}",
        "%s%n%(x)s",
        '"}\n{"text": "forged"}\n',
        "\x00\x1b[2J\u2028\ufeff",
    ],
)
async def test_what_a_message_says_is_text_and_no_template(renderer: ChatTemplateRenderer, content: str) -> None:
    template = "{% for m in messages %}{{ m.content }}|{{ m.content|trim|tojson }}{% endfor %}"
    assert (await render(renderer, template, content)).startswith(content + "|")
    assert await render(renderer, "{{ messages[0].content }}", "next") == "next"


async def test_a_conversation_that_grows_beyond_the_bound_is_refused(renderer: ChatTemplateRenderer) -> None:
    template = "{% for i in range(5) %}{{ messages[0].content }}{% endfor %}"
    with pytest.raises(NaiadError) as caught:
        await render(renderer, template, "x" * 1024 * 1024)
    assert caught.value.reason is Reason.INVALID_FIELD


async def test_half_a_character_is_an_error_of_the_template(renderer: ChatTemplateRenderer) -> None:
    with pytest.raises(NaiadError) as caught:
        await render(renderer, "{{ '\\ud800' }}")
    assert caught.value.reason is Reason.INTERNAL


async def test_a_refusal_is_cut(renderer: ChatTemplateRenderer) -> None:
    with pytest.raises(NaiadError) as caught:
        await render(renderer, "{{ raise_exception('x' * 100000) }}")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert len(caught.value.message) < 1_200


async def test_answers_are_not_mixed_up_when_a_caller_leaves(renderer: ChatTemplateRenderer) -> None:
    await renderer.start()
    left = asyncio.create_task(render(renderer, "{{ messages[0].content }}", "first"))
    await asyncio.sleep(0)
    left.cancel()
    assert await render(renderer, "{{ messages[0].content }}", "second") == "second"


async def test_long_conversations_in_any_script_pass(renderer: ChatTemplateRenderer) -> None:
    content = "中\u0000\u2028👍" * 100_000
    assert await render(renderer, "{{ messages[0].content }}", content) == content
