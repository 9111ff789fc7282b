"""The safety policy: a JSON file, read once at start. docs/safety.md describes it; unknown fields are refused."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

VERSION = 1
ANY_MODEL = "*"
DEFAULT_REPLACEMENT = "[removed]"
MAX_POLICY_BYTES = 64 * 1024 * 1024
MAX_RULES = 64
MAX_WORDS = 1_000_000
MAX_WORD_CHARS = 256


class PolicyError(ValueError):
    """The policy cannot be used. The message is one line that names the field."""


class Action(StrEnum):
    """What happens to what a rule finds."""

    BLOCK = "block"
    REDACT = "redact"
    FLAG = "flag"


@dataclass(frozen=True)
class Rule:
    """One rule: it has words, or a classifier with a threshold for each of some labels."""

    name: str
    action: Action
    replacement: str = DEFAULT_REPLACEMENT
    words: tuple[str, ...] = ()
    classifier: str | None = None
    thresholds: Mapping[str, float] | None = None


@dataclass(frozen=True)
class ModelPolicy:
    """Rules for the prompts of a model and for its answers, in the order in which they are listed."""

    prompt: tuple[Rule, ...] = ()
    answer: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class SafetyPolicy:
    """What holds for each model; ANY_MODEL for those that are not named."""

    models: Mapping[str, ModelPolicy]

    def of_model(self, name: str) -> ModelPolicy:
        """The rules for a model; none when neither it nor ANY_MODEL is named."""
        return self.models.get(name) or self.models.get(ANY_MODEL) or ModelPolicy()

    def rules(self) -> list[Rule]:
        """All rules that some model uses."""
        used = {rule.name: rule for model in self.models.values() for rule in (*model.prompt, *model.answer)}
        return list(used.values())


def load_policy(path: Path) -> SafetyPolicy:
    """Reads and checks a policy. Raises PolicyError."""
    try:
        if path.stat().st_size > MAX_POLICY_BYTES:
            raise PolicyError(f"{path} is larger than {MAX_POLICY_BYTES} bytes")
        document = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_duplicates)
        return read_policy(document)
    except PolicyError as error:
        raise PolicyError(f"{path}: {error}") from None
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{path} is not JSON: {error}") from None


def read_policy(document: Any) -> SafetyPolicy:
    """The policy of a parsed document. Raises PolicyError."""
    fields = _object(document, "policy", {"version", "word_lists", "rules", "models"})
    if fields.get("version") != VERSION:
        raise PolicyError(f"version: {fields.get('version')!r} is not {VERSION}")
    lists = _named(fields.get("word_lists", {}), "word_lists")
    words = {name: _words(value, f"word_lists.{name}") for name, value in lists.items()}
    named_rules = _named(fields.get("rules", {}), "rules")
    if not 1 <= len(named_rules) <= MAX_RULES:
        raise PolicyError(f"rules: {len(named_rules)} rules; 1 to {MAX_RULES} are allowed")
    rules = {name: _rule(name, value, words) for name, value in named_rules.items()}
    models = {
        name: _model(value, f"models.{name}", rules) for name, value in _named(fields.get("models"), "models").items()
    }
    if not models:
        raise PolicyError("models: names no model")
    policy = SafetyPolicy(models)
    if unused := rules.keys() - {rule.name for rule in policy.rules()}:
        raise PolicyError(f"rules.{min(unused)}: no model uses it")
    return policy


def _rule(name: str, value: Any, lists: Mapping[str, tuple[str, ...]]) -> Rule:
    path = f"rules.{name}"
    fields = _object(value, path, {"word_list", "classifier", "thresholds", "action", "replacement"})
    try:
        action = Action(_text(fields.get("action"), f"{path}.action"))
    except ValueError:
        raise PolicyError(f"{path}.action: {fields['action']!r} is none of {', '.join(Action)}") from None
    replacement = _text(fields.get("replacement", DEFAULT_REPLACEMENT), f"{path}.replacement")
    if "replacement" in fields and action is not Action.REDACT:
        raise PolicyError(f"{path}.replacement: only for redact")
    if ("word_list" in fields) == ("classifier" in fields):
        raise PolicyError(f"{path}: needs word_list or classifier, one of them")
    if "word_list" in fields:
        if "thresholds" in fields:
            raise PolicyError(f"{path}.thresholds: only for a classifier")
        list_name = _text(fields["word_list"], f"{path}.word_list")
        if list_name not in lists:
            raise PolicyError(f"{path}.word_list: there is no list {list_name!r}")
        return Rule(name, action, replacement, words=lists[list_name])
    thresholds = _thresholds(fields.get("thresholds"), f"{path}.thresholds")
    return Rule(
        name,
        action,
        replacement,
        classifier=_text(fields["classifier"], f"{path}.classifier"),
        thresholds=thresholds,
    )


def _model(value: Any, path: str, rules: Mapping[str, Rule]) -> ModelPolicy:
    fields = _object(value, path, {"prompt", "answer"})
    sides: dict[str, tuple[Rule, ...]] = {}
    for side, names in fields.items():
        if not isinstance(names, list):
            raise PolicyError(f"{path}.{side}: is not a list")
        for index, name in enumerate(names):
            if not isinstance(name, str) or name not in rules:
                raise PolicyError(f"{path}.{side}[{index}]: there is no rule {name!r}")
        if len(set(names)) != len(names):
            raise PolicyError(f"{path}.{side}: names a rule twice")
        sides[side] = tuple(rules[name] for name in names)
    return ModelPolicy(**sides)


def _words(value: Any, path: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_WORDS:
        raise PolicyError(f"{path}: is not a list of 1 to {MAX_WORDS} words")
    for index, word in enumerate(value):
        if not isinstance(word, str) or not word.strip() or len(word) > MAX_WORD_CHARS:
            raise PolicyError(f"{path}[{index}]: is not a text of 1 to {MAX_WORD_CHARS} characters")
    return tuple(value)


def _thresholds(value: Any, path: str) -> Mapping[str, float]:
    thresholds = _named(value, path)
    if not thresholds:
        raise PolicyError(f"{path}: names no label")
    for label, threshold in thresholds.items():
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1:
            raise PolicyError(f"{path}.{label}: {threshold!r} is not a number over 0, at most 1")
    return {label: float(threshold) for label, threshold in thresholds.items()}


def _object(value: Any, path: str, known: set[str]) -> dict[str, Any]:
    fields = _named(value, path)
    if unknown := fields.keys() - known:
        raise PolicyError(f"{path}: unknown field {min(unknown)!r}; known are {', '.join(sorted(known))}")
    return fields


def _named(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise PolicyError(f"{path}: is missing or not an object")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not value:
        raise PolicyError(f"{path}: is missing or not a text")
    return value


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise PolicyError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return fields
