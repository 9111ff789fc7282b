"""Metrics of the safety stage (docs/contracts.md, section 6)."""

from prometheus_client import CollectorRegistry, Counter, Histogram

_BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class SafetyMetrics:
    """What the rules found, and what looking for it took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.actions = Counter(
            "naiad_safety_actions_total",
            "Prompts, and completions, in which a rule found something.",
            ["model", "side", "rule", "action"],
            registry=registry,
        )
        self.classifier_duration = Histogram(
            "naiad_safety_classifier_duration_seconds",
            "Time that a classifier took for one or more windows of text.",
            ["classifier"],
            buckets=_BUCKETS_S,
            registry=registry,
        )
