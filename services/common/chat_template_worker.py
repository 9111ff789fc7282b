"""Renders chat templates in a process of its own, where time and memory can be bounded; see chat_template.py.

Started by path, with nothing of naiad imported. One JSON object a line in, one a line out:
`{"template": str, "variables": {...}, "max_chars": int}` -> `{"text": str}`, `{"refused": str}` (the template's own
`raise_exception`), `{"too_large": true}` or `{"error": str}`.
"""

import json
import resource
import signal
import sys
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

MEMORY_LIMIT_BYTES = 512 * 1024 * 1024
MAX_MESSAGE_CHARS = 1_000  # of a refusal, or an error; a template can make it as long as a text


class RefusedError(Exception):
    """The template called raise_exception."""


class GenerationBlock(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; serving renders what is inside."""

    tags = {"generation"}  # noqa: RUF012 - declared so by jinja2

    def parse(self, parser: Any) -> Any:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.Scope(body, lineno=line)


def _raise_exception(message: str) -> NoReturn:
    raise RefusedError(message)


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _strftime_now(time_format: str) -> str:
    return datetime.now().strftime(time_format)


@lru_cache(maxsize=64)
def _compile(template: str) -> jinja2.Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[GenerationBlock, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(template)


def render(template: str, variables: dict[str, Any], max_chars: int) -> dict[str, Any]:
    """The answer to one request."""
    pieces: list[str] = []
    size = 0
    try:
        for piece in _compile(template).generate(**variables):
            size += len(piece)
            if size > max_chars:
                return {"too_large": True}
            pieces.append(piece)
        text = "".join(pieces)
        text.encode()  # a template can write half of a surrogate pair, which is no text
    except RefusedError as error:
        return {"refused": str(error)[:MAX_MESSAGE_CHARS]}
    except (MemoryError, OverflowError, RecursionError):
        return {"too_large": True}
    except Exception as error:  # whatever a template can do wrong
        return {"error": f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARS]}
    return {"text": text}


def main() -> None:
    """Answers requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the service drains first
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write("{}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        request = json.loads(line)
        answer = render(request["template"], request["variables"], request["max_chars"])
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
