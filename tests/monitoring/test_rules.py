"""The metrics that alert rules and dashboard read exist, and `make rules` tests every alert."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from serving.telemetry import metrics
from tests.support import ROOT

COMPONENT = ROOT / "k8s" / "components" / "monitoring"
GROUPS = yaml.safe_load((COMPONENT / "prometheus-rule.yaml").read_text(encoding="utf-8"))["spec"]["groups"]
DASHBOARD = json.loads((COMPONENT / "dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
EXPRESSIONS: list[str] = [rule["expr"] for rule in RULES] + [
    target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])
]
# Of Prometheus itself, and of kube-state-metrics.
OTHERS = {"up", "kube_pod_container_status_restarts_total"}


def cases() -> Iterator[tuple[str, bool]]:
    """Yield the alert of each test case, and whether it fires."""
    for file in (ROOT / "tests" / "monitoring").glob("*.yaml"):
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for case in group["promql_expr_test"]:
                for name in re.findall(r'^ALERTS{alertname="(\w+)"', case["expr"]):
                    yield name, bool(case.get("exp_samples"))


@pytest.mark.parametrize("alert", [alert["alert"] for alert in ALERTS])
def test_every_alert_has_a_case_in_which_it_fires_and_one_in_which_it_is_silent(alert: str) -> None:
    assert {fires for name, fires in cases() if name == alert} == {True, False}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_says_how_bad_it_is_what_happened_and_where_to_look(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    assert alert["annotations"].keys() == {"summary", "description", "runbook"}


def test_every_metric_that_is_read_exists() -> None:
    read = {name for expression in EXPRESSIONS for name in re.findall(r"([a-z_0-9:]+)(?=[{\[])", expression)}
    families = [*metrics.registry.collect(), *metrics.WorkerProcesses().collect()]
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"]}
    exist = {family.name + suffix for family in families for suffix in suffixes.get(family.type, [""])}
    exist |= {rule["record"] for rule in RULES if "record" in rule}
    assert {"tiffin_requests_total", "process_cpu_seconds_total"} <= read
    assert read - exist == OTHERS


def test_only_requests_to_models_are_read() -> None:
    read = [part for expression in EXPRESSIONS for part in re.findall(r"tiffin_requests?_\w+{([^}]*)}", expression)]
    assert read
    # A request that caches know of is one to a model.
    assert [part for part in read if 'model!=""' not in part and "cache=" not in part] == []


def test_no_two_panels_overlap() -> None:
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(taken)) == len(taken)
