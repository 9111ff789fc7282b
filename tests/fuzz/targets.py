"""What is fuzzed in Python, by name: a function that takes a fuzzer's bytes and raises for a finding.

`Service.Method` is a request of that method; `chat_template` is a template and a conversation.
"""

from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.choices import Choices
from tests.fuzz.message_from_bytes import message_from
from tests.fuzz.service_under_fuzz import ServiceUnderFuzz
from tests.support.request_types import api_methods

Target = Callable[[bytes], None]
CHAT_TEMPLATE = "chat_template"
_MOST_MESSAGES = 4
# Names and values that get a request past the first look.
KNOWN: dict[str, tuple[Any, ...]] = {
    "model": ("chat", "embed", "tagger", "ranker", "two_sided", "nli", "plain"),
    "role": ("user", "system", "assistant"),
    "max_tokens": (1, 2, 8),
    "n": (1, 2),
    "best_of": (2, 3),
    "temperature": (0.0, 0.7),
    "top_p": (0.9,),
    "priority": (-100, 0, 7),
    "json_schema": ("{}", '{"type": "boolean"}'),
    "regex": ("[a-c]{1,3}", "(yes|no)"),
    "json_object": (True,),
    "texts": ("ada saw paris", "cats and dogs", ""),
    "text": ("ada saw paris", "hello world"),
    "documents": ("the cat", "about dogs"),
    "query": ("cat",),
    "first": ("cat",),
    "second": ("dog",),
    "ids": (0, 1, 5, 100),
    "labels": ("cats", "dogs", "x"),
    "label": ("bad", "good"),
    "hypothesis_template": ("{}", "about {}"),
    "min_score": (0.0, 0.5),
    "window_overlap_tokens": (0, 2),
    "max_samples": (16, 40),
    "dimensions": (1, 4),
}


def target_names() -> list[str]:
    """All targets."""
    return [*sorted(_methods()), CHAT_TEMPLATE]


def make_target(name: str) -> Target:
    """The target called `name`; what it needs lives as long as the process."""
    if name == CHAT_TEMPLATE:
        from tests.fuzz.chat_template_target import render_from_bytes

        return render_from_bytes
    method = _methods()[name]
    service = ServiceUnderFuzz(method.containing_service.name)
    path = f"/{method.containing_service.full_name}/{method.name}"
    message_type = GetMessageClass(method.input_type)

    def call(data: bytes) -> None:
        choices = Choices(data)
        count = choices.number(1, _MOST_MESSAGES) if method.client_streaming else 1
        service.call(path, [message_from(choices, message_type, KNOWN) for _ in range(count)])

    return call


def _methods() -> dict[str, MethodDescriptor]:
    return {f"{method.containing_service.name}.{method.name}": method for method in api_methods()}
