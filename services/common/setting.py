"""How one setting is declared and read from its environment variable. `settings.py` has the settings themselves.

A group of settings that belongs to one concern may live in a module of its own: a frozen dataclass of `setting` fields,
which a class of `settings.py` inherits.
"""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ENV_PREFIX = "NAIAD_"
METADATA_KEY = "setting"
_MAX_PORT = 65535


@dataclass(frozen=True)
class SettingSpec:
    """What is known about one setting. Bounds are inclusive; `choices`, if any, are the only legal values."""

    env: str
    doc: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()

    def range_text(self) -> str:
        """The legal values, for people."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        if self.minimum is not None and self.maximum is not None:
            return f"{_number(self.minimum)} to {_number(self.maximum)}"
        if self.minimum is not None:
            return f"at least {_number(self.minimum)}"
        return "any"


class SettingsError(ValueError):
    """A variable is unknown or its value is not legal. The message is one line."""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def setting(  # noqa: PLR0913 - the parts of one declaration, all but two by keyword
    default: Any,
    env: str,
    *,
    doc: str,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declares one field of a settings dataclass. `env` is the name without the prefix."""
    spec = SettingSpec(ENV_PREFIX + env, doc, minimum, maximum, choices)
    return dataclasses.field(default=default, metadata={METADATA_KEY: spec})


def port_setting(default: int, env: str, doc: str) -> Any:
    """Declares a TCP port; 0 picks a free one."""
    return setting(default, env, doc=doc, minimum=0, maximum=_MAX_PORT)


def specs_of(settings_class: type[Any]) -> dict[str, SettingSpec]:
    """Field name -> spec, in the order of declaration."""
    return {field.name: field.metadata[METADATA_KEY] for field in dataclasses.fields(settings_class)}


def parse_setting(text: str, default: object, spec: SettingSpec) -> object:
    """The value that `text` stands for, of the type of `default`. Raises SettingsError."""
    kind = type(default)
    try:
        value = _convert(text.strip(), kind)
    except ValueError:
        raise SettingsError(f"{spec.env}={text!r} is not {_KIND_NAMES[kind]} ({spec.range_text()})") from None
    too_small = spec.minimum is not None and isinstance(value, int | float) and value < spec.minimum
    too_large = spec.maximum is not None and isinstance(value, int | float) and value > spec.maximum
    not_a_choice = bool(spec.choices) and value not in spec.choices
    if too_small or too_large or not_a_choice:
        raise SettingsError(f"{spec.env}={text!r} is out of range ({spec.range_text()})")
    return value


_KIND_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text that is not empty",
    Path: "a path",
}


def _convert(text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise ValueError(text)
        return text.lower() in ("true", "1")
    if not text:
        raise ValueError(text)
    converted: object = kind(text)
    if isinstance(converted, float) and math.isnan(converted):
        raise ValueError(text)
    return converted
