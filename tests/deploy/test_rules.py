"""The rules of the runbooks: Prometheus accepts them, they do what they say, and they name only what is measured."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from agentos.kernel.telemetry import CATALOGUE
from tests.debian import program

ROOT = Path(__file__).parent.parent.parent
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
PARTS = {"counter": ("",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
MEASURED = {f"{name}{part}" for metric in CATALOGUE for name in metric.names for part in PARTS[metric.kind]}


def rules() -> list[dict[str, Any]]:
    return [
        rule
        for file in RULES
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def named(expression: str) -> set[str]:
    """The metrics that an expression names."""
    found: set[str] = set()
    promql_parser.walk(promql_parser.parse(expression), lambda one: found.update(_name(one)))
    return found


def _name(one: object) -> Iterator[str]:
    if isinstance(one, promql_parser.VectorSelector):
        yield one.name or ""


def promtool(*arguments: str | Path) -> str:
    done = subprocess.run([str(program("promtool")), *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_rule_names_only_metrics_of_the_catalogue_and_of_recording_rules() -> None:
    known = MEASURED | {rule["record"] for rule in rules() if "record" in rule}
    unknown = {name for rule in rules() for name in named(rule["expr"]) if name not in known}
    assert not unknown


def test_a_metric_that_does_not_exist_is_noticed() -> None:
    assert named("max(a_b) by (c) / rate(d_total{e='f'}[5m]) > on () g") == {"a_b", "d_total", "g"}


def test_every_key_metric_of_the_aos_runbook_is_measured_or_recorded() -> None:
    known = MEASURED | {rule["record"] for rule in rules() if "record" in rule}
    key = {
        "aos_llm_latency_p99",
        "aos_llm_error_rate",
        "aos_skill_execution_time_p99",
        "aos_registry_size",
        "aos_determinism_drift",
        "aos_llm_errors_total",
        "aos_llm_calls_total",
        "aos_skill_duration_seconds_bucket",
        "aos_registry_operations_total",
    }
    assert key <= known


def test_every_alert_says_what_is_wrong_and_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert alerts
    assert not [rule["alert"] for rule in alerts if not {"summary", "action"} <= set(rule["annotations"])]
    assert not [rule["alert"] for rule in alerts if "pack" not in rule["labels"]]


@pytest.mark.debian("promtool")
def test_prometheus_accepts_the_rules_and_the_configuration() -> None:
    promtool("check", "rules", *RULES)
    promtool("check", "config", ROOT / "deploy" / "prometheus" / "prometheus.yml")


@pytest.mark.debian("promtool")
@pytest.mark.parametrize("file", RULES, ids=lambda file: file.stem)
def test_the_rules_do_what_they_say(file: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", Path(__file__).parent / file.name)
