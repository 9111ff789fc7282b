"""Ten JSON schemas as users write them, with a prompt for each; all have an end, however a model fills them."""

from typing import Any

Schema = dict[str, Any]


def _text(most: int) -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _object(properties: dict[str, Schema], required: list[str] | None = None) -> Schema:
    return {"type": "object", "properties": properties, "required": required or list(properties)}


GUIDED_SCHEMAS: dict[str, tuple[str, Schema]] = {
    "person": (
        "Describe a person as JSON.",
        _object(
            {
                "name": _text(16),
                "age": {"type": "integer", "minimum": 0, "maximum": 120},
                "married": {"type": "boolean"},
            }
        ),
    ),
    "sentiment": (
        "Classify this review as JSON: 'The film was a joy from start to end.'",
        _object(
            {
                "label": {"enum": ["positive", "negative", "neutral"]},
                "score": {"type": "number", "minimum": 0, "maximum": 1},
            }
        ),
    ),
    "shopping list": (
        "Write a shopping list as JSON.",
        {
            "type": "array",
            "items": _object({"item": _text(12), "count": {"type": "integer", "minimum": 1, "maximum": 99}}),
            "minItems": 2,
            "maxItems": 4,
        },
    ),
    "call": (
        "Which function should be called? Answer as JSON.",
        {
            "oneOf": [
                _object(
                    {"function": {"const": "weather"}, "city": {"type": "string", "pattern": "^[A-Z][a-z]{2,12}$"}}
                ),
                _object({"function": {"const": "time"}, "zone": {"enum": ["UTC", "CET", "EST"]}}),
            ]
        },
    ),
    "event": (
        "Write a calendar entry as JSON.",
        _object(
            {
                "id": {"type": "string", "format": "uuid"},
                "day": {"type": "string", "format": "date"},
                "title": _text(20),
            }
        ),
    ),
    "tree": (
        "Write a family tree as JSON.",
        {
            "$defs": {
                "node": _object(
                    {
                        "name": {"type": "string", "pattern": "^[a-z]{1,6}$"},
                        "child": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/leaf"}]},
                    }
                ),
                "leaf": _object({"name": {"type": "string", "pattern": "^.{1,6}$"}}),
            },
            "$ref": "#/$defs/node",
        },
    ),
    "point": (
        "Write a point as JSON.",
        {
            "type": "array",
            "prefixItems": [
                {"type": "number", "minimum": -90, "maximum": 90},
                {"type": "number", "minimum": -180, "maximum": 180},
                {"enum": ["north", "south"]},
            ],
            "items": False,
            "minItems": 3,
        },
    ),
    "settings": (
        "Write the settings of a program as JSON.",
        _object(
            {
                "verbose": {"type": ["boolean", "null"]},
                "level": {"type": "integer", "exclusiveMinimum": 0, "maximum": 9},
                "paths": {
                    "type": "array",
                    "items": {"type": "string", "pattern": "^(/[a-z]{1,8}){1,3}$"},
                    "maxItems": 2,
                },
            },
            ["level"],
        ),
    ),
    "counts": (
        "Count the letters as JSON.",
        {
            "type": "object",
            "patternProperties": {"^[a-z]{1,3}$": {"type": "integer", "minimum": 0, "maximum": 999}},
            "additionalProperties": False,
            "minProperties": 1,
            "maxProperties": 3,
        },
    ),
    "nested": (
        "Describe a company as JSON.",
        _object(
            {
                "company": _object(
                    {
                        "name": _text(12),
                        "staff": {"type": "integer", "minimum": 1, "maximum": 100000},
                    }
                ),
                "tags": {
                    "type": "array",
                    "items": {"enum": ["big", "small", "old", "new"]},
                    "minItems": 1,
                    "maxItems": 2,
                },
            }
        ),
    ),
}
