"""Puts the safety stage together, and checks its policy against the models that there are."""

from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.registry import ModelRegistry, Task
from services.common.safety_settings import OFF, SafetySettings
from services.common.setting import SettingsError
from services.common.text_models import TextModels
from services.common.triton_inference import PooledInference
from services.generation.safety.classifier import ModerationClassifier
from services.generation.safety.metrics import SafetyMetrics
from services.generation.safety.policy import ANY_MODEL, PolicyError, SafetyPolicy, load_policy
from services.generation.safety.stage import SafetyStage


def make_stage(
    settings: SafetySettings, models: TextModels, inference: PooledInference, metrics_registry: CollectorRegistry
) -> SafetyStage | None:
    """The stage, None when it is off. Raises SettingsError."""
    if settings.safety_policy == OFF:
        return None
    try:
        policy = load_policy(Path(settings.safety_policy))
        check_models(policy, models.registry)
        metrics = SafetyMetrics(metrics_registry)
        return SafetyStage(policy, ModerationClassifier(inference, models, metrics), metrics)
    except PolicyError as error:
        raise SettingsError(f"NAIAD_SAFETY_POLICY: {error}") from None
    except ModuleNotFoundError as error:
        raise SettingsError(f"NAIAD_SAFETY_POLICY needs `pip install 'naiad[safety]'`: {error}") from error


def check_models(policy: SafetyPolicy, registry: ModelRegistry) -> None:
    """Raises PolicyError for a model, a classifier or a label that does not exist: a rule must not be off unseen."""
    entries = registry.entries()
    for name in policy.models:
        if name != ANY_MODEL and (name not in entries or entries[name].task is not Task.GENERATE):
            raise PolicyError(f"models.{name}: there is no such model that generates")
    for rule in policy.rules():
        if rule.classifier is None:
            continue
        entry = entries.get(rule.classifier)
        if entry is None or entry.task is not Task.CLASSIFY:
            raise PolicyError(f"rules.{rule.name}.classifier: there is no classification model {rule.classifier!r}")
        if unknown := (rule.thresholds or {}).keys() - set(entry.labels):
            labels = ", ".join(entry.labels)
            raise PolicyError(f"rules.{rule.name}.thresholds: {min(unknown)!r} is none of its labels, {labels}")
