"""What the verbs of policy ask of the API, and what they show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from agentos.apps.cli import output, policy
from agentos.kernel.errors import exit_code

DEPLOYMENT = "dep_01m7y9hwceepyafgvbxtvt9bec"
BASE = "/api/v1/agents/policies"


class Api:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []

    def get(self, path: str, **query: Any) -> Any:
        self.asked.append(("GET", path, query, {}))
        return {"items": []}

    def put(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        self.asked.append(("PUT", path, body, headers or {}))
        return {}

    def post(self, path: str, body: Any = None) -> Any:
        self.asked.append(("POST", path, body, {}))
        told = {"verdict": "ask", "code": "tier_matrix", "rule": "words", "reasons": []}
        skills = [{"skill": "pay", "version": "1", "effect": "S3", "now": told, "proposed": "unknown"}]
        return {
            "rules": [told],
            "skills": skills,
            "stopped": [{"skill": "pay", "run_id": "run_1"}],
            "refused": [{"run_id": "run_1", "step": "t0", "code": "budget"}],
            "asked": 1,
        }


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(policy, "connect", lambda: made)
    monkeypatch.setattr(output, "as_json", True)
    return made


def run(*words: str) -> Any:
    app = typer.Typer()
    policy.register(app)
    result = CliRunner().invoke(app, ["policy", *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout) if output.as_json else result.stdout


def test_show_and_history_are_of_the_organization_or_a_deployment(api: Api) -> None:
    run("show")
    run("show", "--deployment", DEPLOYMENT)
    run("history", "-d", DEPLOYMENT)
    assert [path for _, path, _, _ in api.asked] == [
        f"{BASE}/organization",
        f"/api/v1/agents/deployments/{DEPLOYMENT}/policy",
        f"/api/v1/agents/deployments/{DEPLOYMENT}/policy/history",
    ]


def test_set_puts_the_file_with_its_reason_and_state(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text("deny: ['pay*']\ncedar: |\n  forbid(principal, action, resource);\n")
    run("set", str(file), "--reason", "why", "--confirm", "--if-match", "3")
    (asked,) = api.asked
    assert asked[:2] == ("PUT", f"{BASE}/organization")
    written = {"deny": ["pay*"], "cedar": "forbid(principal, action, resource);\n"}
    assert asked[2] == {"policy": written, "reason": "why", "confirm": True}
    assert asked[3] == {"If-Match": '"3"'}


def test_decide_simulate_and_backtest_post_what_is_proposed(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "proposed.json"
    file.write_text('{"tier": "L1"}')
    run("decide", DEPLOYMENT, "pay", "--arguments", '{"n": 1}')
    run("simulate", DEPLOYMENT, "--proposed", str(file))
    run("backtest", "--proposed", str(file), "--since", "2026-11-19T21:14Z")
    assert [(path, body) for _, path, body, _ in api.asked] == [
        (
            f"{BASE}/decide",
            {"deployment_id": DEPLOYMENT, "skill": "pay", "arguments": {"n": 1}, "submitted": False},
        ),
        (f"{BASE}/simulate", {"deployment_id": DEPLOYMENT, "proposed": {"tier": "L1"}}),
        (
            f"{BASE}/backtest",
            {"proposed": {"tier": "L1"}, "since": "2026-11-19T21:14:00+00:00", "until": "", "deployment_id": ""},
        ),
    ]


def test_people_get_tables(api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "as_json", False)
    file = tmp_path / "proposed.json"
    file.write_text('{"tier": "L1"}')
    run("decide", DEPLOYMENT, "pay")
    run("simulate", DEPLOYMENT, "--proposed", str(file))
    run("backtest", "--proposed", str(file))


@pytest.mark.parametrize("text", ["[1]", "a: [", "\xff\xfe"])
def test_a_file_that_is_no_policy_is_refused(api: Api, tmp_path: Path, text: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(policy.PolicyUnreadable) as refused:
        run("set", str(file))
    assert exit_code(refused.value) == 2
    assert api.asked == []
    with pytest.raises(policy.PolicyUnreadable):
        run("set", str(tmp_path / "missing.yaml"))
