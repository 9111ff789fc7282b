"""Rules and dashboard parse, name only metrics that exist, and every alert is explained and tested."""

import importlib.util
import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from services.common.metrics import FrontendMetrics, ServiceMetrics, TritonMetrics
from services.generation.safety.metrics import SafetyMetrics

ROOT = Path(__file__).resolve().parents[3]
MONITORING = ROOT / "k8s" / "monitoring"
DASHBOARD = json.loads((MONITORING / "naiad-dashboard.json").read_text())
RULES = yaml.safe_load((MONITORING / "rules.yaml").read_text())
METRIC = re.compile(r"(?<![\w:$])(?:naiad_\w+|up)(?=[{\[\s)]|$)")
HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")

Promtool = Callable[..., "subprocess.CompletedProcess[str]"]


def contract_metrics() -> dict[str, str]:
    """Name -> kind (or "" where the contract leaves it to the services) of section 6 of docs/contracts.md."""
    section = (ROOT / "docs" / "contracts.md").read_text().split("## 6. Metrics")[1].split("\n## ")[0]
    kinds: dict[str, str] = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("| ").replace("\\|", "/").split("|")]
        kind = cells[-1] if line.startswith("|") else ""
        for name in re.findall(r"`(naiad_\w+)", line):
            kinds[name] = kinds.get(name) or kind
    return kinds


def service_metrics() -> dict[str, str]:
    """Name -> kind of what the services register."""
    service = ServiceMetrics()
    others = CollectorRegistry()
    TritonMetrics(others)
    FrontendMetrics(others)
    SafetyMetrics(others)
    families = [*service.registry.collect(), *others.collect()]
    return {family.name + ("_total" if family.type == "counter" else ""): family.type for family in families}


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule}


def recorded() -> set[str]:
    return {rule["record"] for group in RULES["groups"] for rule in group["rules"] if "record" in rule}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of every query in rules and dashboard."""
    for group in RULES["groups"]:
        for rule in group["rules"]:
            yield rule.get("alert") or rule["record"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["definition"].removeprefix("label_values(").split(",")[0]


def wrapper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wrap_rules", MONITORING / "wrap_rules.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_promtool_accepts_the_rules(promtool: Promtool) -> None:
    done = promtool("check", "rules", str(MONITORING / "rules.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_behaves_as_its_promtool_tests_say(promtool: Promtool) -> None:
    done = promtool("test", "rules", str(MONITORING / "rules_test.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tested_both_firing_and_silent() -> None:
    tests = yaml.safe_load((MONITORING / "rules_test.yaml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"]]
    fires = {check["alertname"] for check in checks if check.get("exp_alerts")}
    silent_when_healthy = {check["alertname"] for check in tests[0]["alert_rule_test"] if not check.get("exp_alerts")}
    assert fires == silent_when_healthy == alerts().keys()


def test_the_operators_object_holds_the_same_rules() -> None:
    written = yaml.safe_load((MONITORING / "prometheus-rule.yaml").read_text())
    assert written == wrapper().wrap(RULES), "run: python k8s/monitoring/wrap_rules.py"


def test_every_alert_links_to_its_section_of_the_runbook() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    sections = {line.removeprefix("### ").strip().lower() for line in page.splitlines() if line.startswith("### ")}
    for name, rule in alerts().items():
        assert rule["annotations"]["runbook_url"] == f"docs/monitoring.md#{name.lower()}"
        assert name.lower() in sections
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"]


def test_rules_and_dashboard_name_only_metrics_of_the_contract() -> None:
    known = contract_metrics()
    assert len(known) > 20
    for where, expression in expressions():
        names = METRIC.findall(expression)
        assert names or any(name in expression for name in recorded()), f"{where}: no metric in {expression}"
        for name in names:
            base = next((name.removesuffix(s) for s in HISTOGRAM_SUFFIXES if name.removesuffix(s) in known), name)
            assert base in known or name == "up", f"{where}: {name} is not in docs/contracts.md"


def test_queries_use_the_suffix_that_the_kind_of_the_metric_has() -> None:
    kinds = {**contract_metrics(), **service_metrics()}
    for where, expression in expressions():
        for name in METRIC.findall(expression):
            base = next((name.removesuffix(s) for s in HISTOGRAM_SUFFIXES if name.endswith(s)), name)
            is_histogram = kinds.get(base) == "histogram"
            assert is_histogram == (name != base), f"{where}: {name}"


def test_the_engine_has_the_metrics_of_the_contract_and_no_other() -> None:
    header = (ROOT / "core" / "triton" / "metric_names.h").read_text()
    shapes = {"Counter": "counter", "Gauge": "gauge", "Seconds": "histogram", "Counts": "histogram"}
    defined = {name: shapes[shape] for name, shape in re.findall(r'\{"(naiad_\w+)", MetricShape::k(\w+),', header)}
    assert defined == {name: kind for name, kind in contract_metrics().items() if kind}


def test_the_services_register_what_the_contract_names_for_them() -> None:
    engine_or_service = contract_metrics()
    assert service_metrics().keys() <= engine_or_service.keys()


def test_the_metric_finder_sees_a_name_wherever_promql_allows_one() -> None:
    found = METRIC.findall('sum(rate(naiad_a_total{x="y"}[5m])) / naiad_b + up == naiad_c')
    assert found == ["naiad_a_total", "naiad_b", "up", "naiad_c"]
    assert METRIC.findall("job:naiad_rpc_errors:ratio_rate5m > 1") == []


def test_every_query_of_the_dashboard_is_valid_promql(promtool: Promtool, tmp_path: Path) -> None:
    rules: list[dict[str, str]] = []
    for panel in panels():
        for target in panel["targets"]:
            expression = (
                target["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*").replace("$model", ".*")
            )
            assert "$" not in expression, f"{panel['title']}: unknown variable in {expression}"
            rules.append({"record": f"dashboard:query_{len(rules)}", "expr": expression})
    file = tmp_path / "queries.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = promtool("check", "rules", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_panels_are_readable_and_use_the_chosen_data_source() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"datasource", "namespace", "model"}
    for panel in panels():
        assert panel["title"] and panel["description"], panel["id"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["datasource"]["uid"] == "${datasource}", panel["title"]
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}", panel["title"]
            assert 'namespace=~"$namespace"' in target["expr"], panel["title"]
            assert "rate(" not in target["expr"] or "[$__rate_interval]" in target["expr"], panel["title"]


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize(
    "metric",
    [name for name, kind in contract_metrics().items() if kind or name.startswith("naiad_frontend")],
)
def test_every_engine_and_frontend_metric_is_on_the_dashboard(metric: str) -> None:
    queries = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert re.search(rf"\b{metric}(_bucket|_sum|_count)?\b", queries)
