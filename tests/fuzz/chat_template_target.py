"""Chat templates from the bytes of a fuzzer, rendered as the template process renders them, but in this process.

The real one is killed when it takes too long or its memory is full; here a timer and a limit of this process stand for
both, and count as the refusal that they lead to. What is looked for: code that leaves the sandbox, an answer that is
no answer, a text beyond its bound.
"""

import contextlib
import json
import resource
import signal
import sys
from collections.abc import Iterator
from types import FrameType

from services.common.chat_template_worker import MAX_MESSAGE_CHARS, render
from tests.fuzz.choices import Choices

MAX_CHARS = 10_000
TIME_LIMIT_S = 0.5
MEMORY_LIMIT_BYTES = 3 << 30
_ROLES = ("user", "system", "assistant")
_ANSWERS = ({"text"}, {"refused"}, {"too_large"}, {"error"})
# Events of the interpreter that no template may cause.
_FORBIDDEN = ("open", "os.system", "os.exec", "os.fork", "os.spawn", "os.posix_spawn", "os.remove", "os.rename",
              "subprocess.", "socket.", "shutil.", "ctypes.")  # fmt: skip
_watching = False
_escapes: list[str] = []


class EscapeError(AssertionError):
    """A template reached, or changed, what the sandbox should keep from it."""


class _TooLongError(BaseException):
    """The timer's. Not an Exception: a template's own handlers must not swallow it."""


def render_from_bytes(data: bytes) -> None:
    """Renders a template; raises for a finding."""
    _prepare()
    choices = Choices(data)
    messages = [{"role": choices.one_of(_ROLES), "content": choices.text(32)} for _ in range(choices.number(0, 3))]
    variables = {
        "messages": messages,
        "tools": None,
        "documents": None,
        "add_generation_prompt": choices.flag(),
        "bos_token": "<s>",
        "eos_token": "</s>",
    }
    template = choices.rest().decode("utf-8", "replace")
    before = json.dumps(variables)
    try:
        with _limited():
            answer = render(template, variables, MAX_CHARS)
    except _TooLongError:
        return
    if _escapes:
        raise EscapeError("; ".join(_escapes))
    if set(answer) not in _ANSWERS:
        raise AssertionError(f"not an answer: {answer}")
    if len(answer.get("text", "")) > MAX_CHARS:
        raise AssertionError("more text than is allowed")
    if len(answer.get("refused", "")) > MAX_MESSAGE_CHARS or len(answer.get("error", "")) > MAX_MESSAGE_CHARS:
        raise AssertionError("a longer message than is allowed")
    if json.dumps(variables) != before:
        raise EscapeError("the template changed the conversation")
    json.dumps(answer, ensure_ascii=False).encode()  # the service makes a message of it, in UTF-8


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    global _watching  # noqa: PLW0603 - audit hooks are of the process
    signal.setitimer(signal.ITIMER_REAL, TIME_LIMIT_S)
    _watching = True
    try:
        yield
    finally:
        _watching = False
        signal.setitimer(signal.ITIMER_REAL, 0)


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Notes what a template may not cause. To raise would not do: the renderer takes any error for the template's."""
    if not _watching or not event.startswith(_FORBIDDEN):
        return
    # The interpreter reads modules at their first use, and source for a traceback.
    if event == "open" and str(arguments[0]).endswith((".py", ".pyc", ".so")):
        return
    # And the line of an error in what Jinja makes of a template, such as a `break` outside of a loop. It is Jinja that
    # gives all templates this name.
    if event == "open" and arguments[0] == "<template>":
        return
    _escapes.append(f"{event} {arguments}")


def _on_timer(number: int, frame: FrameType | None) -> None:
    raise _TooLongError


_prepared = False


def _prepare() -> None:
    global _prepared  # noqa: PLW0603 - the hook cannot be taken away again
    if _prepared:
        return
    _prepared = True
    signal.signal(signal.SIGALRM, _on_timer)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    sys.addaudithook(_watch)
