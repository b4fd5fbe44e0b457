"""Alert rules: valid, unit-tested one by one, each with a runbook that exists, over metrics that exist."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

ROOT = Path(__file__).parents[2]
RULES = ROOT / "monitoring/rules/fleet.yml"
UNIT_TESTS = ROOT / "monitoring/rules/tests/fleet.yml"
PROMTOOL = shutil.which("promtool")


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


ALERTS = [rule for rule in _rules() if "alert" in rule]


def _declared() -> set[str]:
    for name in ("mx", "syncd", "control"):
        importlib.import_module(f"monitoring.metrics.{name}")
    return {sample for family in REGISTRY.collect() for sample in (family.name, f"{family.name}_total")}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is missing: apt-get install prometheus")
@pytest.mark.parametrize("command", [["check", "rules", str(RULES)], ["test", "rules", str(UNIT_TESTS)]])
def test_promtool_is_content(command: list[str]) -> None:
    done = subprocess.run([str(PROMTOOL), *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: str(rule["alert"]))
def test_every_alert_has_severity_summary_and_a_runbook_that_exists(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    runbook = ROOT / rule["annotations"]["runbook_url"]
    assert runbook.read_text().startswith(f"# {rule['alert']}\n")


def test_every_alert_is_shown_silent_firing_and_resolved() -> None:
    shown: dict[str, list[bool]] = {}
    for case in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
        for check in case["alert_rule_test"]:
            shown.setdefault(check["alertname"], []).append(bool(check.get("exp_alerts")))
    assert shown == {rule["alert"]: [False, True, False] for rule in ALERTS}


def test_rules_read_only_metrics_that_the_code_declares() -> None:
    declared = _declared() | {"up"}
    for rule in _rules():
        for name in re.findall(r"\b((?:mx|syncd|control)_[a-z0-9_]+)\b", rule["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in declared, name
