"""Checks the guide of a generation request. Whether the engine can follow it is the engine's to say."""

import json
from typing import Any

from naiad.v1 import generation_pb2 as pb

from services.common.errors import Violations
from services.generation.parameters import Guide, GuideKind

_KINDS = {
    "json_schema": GuideKind.JSON_SCHEMA,
    "regex": GuideKind.REGEX,
    "json_object": GuideKind.JSON_OBJECT,
}


def read_guide(request: pb.GenerateRequest | pb.GenerateStreamRequest, violations: Violations) -> Guide | None:
    """The guide as plain data; None when the request has none, or none that makes sense."""
    if not request.HasField("guide"):
        return None
    # The guide alone says when a text is complete.
    violations.require(not request.stopping.ignore_eos, "stopping.ignore_eos", "not together with a guide")
    violations.require(request.stopping.min_tokens <= 0, "stopping.min_tokens", "not together with a guide")
    name = request.guide.WhichOneof("kind")
    if name is None:
        violations.add("guide", "missing: neither json_schema, regex nor json_object")
        return None
    field = f"guide.{name}"
    if name == "json_object":
        violations.require(request.guide.json_object, field, "must be true")
        return Guide(GuideKind.JSON_OBJECT, "", field)
    text = request.guide.json_schema if name == "json_schema" else request.guide.regex
    if not text:
        violations.add(field, "empty; at least 1 byte is needed")
    elif name == "json_schema":
        violations.require(_is_schema(text), field, "not a JSON schema: neither a JSON object nor true or false")
    return Guide(_KINDS[name], text, field)


def _is_schema(text: str) -> bool:
    try:
        schema: Any = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return isinstance(schema, dict | bool)


def _refuse(constant: str) -> None:
    # Python's parser takes NaN and Infinity, which JSON does not have.
    raise ValueError(constant)
