"""Writes prometheus-rule.yaml: the groups of rules.yaml as the Prometheus operator wants them.

`python k8s/monitoring/wrap_rules.py [DOCS_URL]`. With a DOCS_URL (https://host/path/, where your people read `docs/`)
the runbook links become absolute.
"""

import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent
HEADER = "# Written by wrap_rules.py from rules.yaml: change that file, then run the script.\n"


def wrap(rules: dict[str, Any], docs_url: str = "") -> dict[str, Any]:
    """The PrometheusRule object around the content of a rule file; `docs_url` goes before every runbook link."""
    groups = [
        {**group, "rules": [_with_docs_url(rule, docs_url) for rule in group["rules"]]} for group in rules["groups"]
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "naiad", "labels": {"app.kubernetes.io/part-of": "naiad"}},
        "spec": {"groups": groups},
    }


def _with_docs_url(rule: dict[str, Any], docs_url: str) -> dict[str, Any]:
    if "annotations" not in rule:
        return rule
    annotations = rule["annotations"]
    return {**rule, "annotations": {**annotations, "runbook_url": docs_url + annotations["runbook_url"]}}


def main() -> int:
    """Reads rules.yaml and writes prometheus-rule.yaml beside it."""
    docs_url = sys.argv[1] if len(sys.argv) > 1 else ""
    rules = yaml.safe_load((FOLDER / "rules.yaml").read_text())
    text = yaml.safe_dump(wrap(rules, docs_url), sort_keys=False, width=110, allow_unicode=True)
    (FOLDER / "prometheus-rule.yaml").write_text(HEADER + text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
