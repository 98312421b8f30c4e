"""What the verbs of agents and deployments ask of the API."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from agentos.apps.cli import agents, deployments, output, rollouts
from agentos.control.agents.model import ManifestInvalid
from agentos.control.deployments.model import DeploymentUnknown

from ..agents.test_manifest import GOOD

LIVE, OVER = "dep_01m7y9hwceepyafgvbxtvt9bec", "dep_01m7y9hwceepyafgvbxtvt9bed"
BASE = "/api/v1/agents/deployments"


class Api:
    """Remembers what it was asked, and answers as the API does."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.found: list[dict[str, Any]] = [{"id": OVER, "state": "retired"}, {"id": LIVE, "state": "paused"}]
        self.error: Exception | None = None

    def get(self, path: str, **query: Any) -> Any:
        if path == BASE:
            self.asked.append(("GET", path, query, {}))
            return {"items": self.found}
        return self._answer("GET", path, None, None)

    def post(self, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        return self._answer("POST", path, body, headers)

    def delete(self, path: str, headers: dict[str, str] | None = None, **query: Any) -> Any:
        return self._answer("DELETE", path, query, headers)

    def patch(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        return self._answer("PATCH", path, body, headers)

    def _answer(self, method: str, path: str, body: Any, headers: dict[str, str] | None) -> Any:
        self.asked.append((method, path, body, headers or {}))
        if self.error:
            raise self.error
        return {"id": LIVE, "last_known_good": "unknown", "history": [], "applied": []}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    made = Api()
    monkeypatch.setattr(agents, "connect", lambda: made)
    monkeypatch.setattr(deployments, "connect", lambda: made)
    monkeypatch.setattr(rollouts, "connect", lambda: made)
    monkeypatch.setattr(output, "as_json", True)
    return made


def run(*words: str) -> None:
    app = typer.Typer()
    agents.register(app)
    deployments.register(app)
    rollouts.register(app)
    done = CliRunner().invoke(app, list(words))
    if done.exception is not None:
        raise done.exception
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize(
    ("words", "method", "path", "body", "headers"),
    [
        (["show", LIVE], "GET", f"/{LIVE}", None, {}),
        (
            ["promote", LIVE, "2", "--accept-breaking"],
            "POST",
            f"/{LIVE}/promote",
            {"version": "2", "reason": "", "accept_breaking": True},
            {},
        ),
        (["promote", LIVE, "2", "--reason", "r"], "POST", f"/{LIVE}/promote", {"version": "2", "reason": "r"}, {}),
        (
            ["promote", LIVE, "2", "--what-if", "50", "--changed", "2", "--dry-run"],
            "POST",
            f"/{LIVE}/promote?dry_run=true",
            {
                "version": "2",
                "reason": "",
                "what_if": 50,
                "what_if_changed": 2.0,
                "what_if_diverged": None,
                "what_if_cost": None,
            },
            {},
        ),
        (
            ["canary", LIVE, "2", "10", "--force", "--reason", "r"],
            "POST",
            f"/{LIVE}/canary",
            {"version": "2", "reason": "r", "force": True, "percent": 10},
            {},
        ),
        (
            ["end-canary", LIVE, "--if-match", "7"],
            "DELETE",
            f"/{LIVE}/canary",
            {"reason": "", "dry_run": ""},
            {"If-Match": '"7"'},
        ),
        (["shadow", LIVE, "2", "20"], "POST", f"/{LIVE}/shadow", {"version": "2", "percent": 20, "live": False}, {}),
        (["rollback", LIVE], "POST", f"/{LIVE}/rollback", {"version": None, "reason": ""}, {}),
        (["rollback", LIVE, "1"], "POST", f"/{LIVE}/rollback", {"version": "1", "reason": ""}, {}),
        (["pause", LIVE, "--if-match", "7"], "POST", f"/{LIVE}/pause", None, {"If-Match": '"7"'}),
        (["resume", LIVE, "--if-match", '"7"'], "POST", f"/{LIVE}/resume", None, {"If-Match": '"7"'}),
        (["retire", LIVE, "--if-match", "*"], "POST", f"/{LIVE}/retire", None, {"If-Match": "*"}),
        (["tier", LIVE, "L1"], "PATCH", f"/{LIVE}", {"tier": "L1"}, {}),
        (
            ["create", "writer", "staging", "--serve"],
            "POST",
            "",
            {"agent_id": "writer", "environment": "staging", "version": None, "tier": None, "serve": True},
            {},
        ),
    ],
)
def test_a_verb_asks_the_api_for_just_that(
    api: Api, words: list[str], method: str, path: str, body: Any, headers: dict[str, str]
) -> None:
    run("deployments", *words)
    assert api.asked == [(method, BASE + path, body, headers)]


@pytest.mark.parametrize(("named", "environment"), [("writer", "production"), ("writer/staging", "staging")])
def test_a_deployment_is_named_by_its_agent_and_the_live_one_is_meant(api: Api, named: str, environment: str) -> None:
    run("deployments", "pause", named)
    assert api.asked[0][2] == {"agent": "writer", "environment": environment, "limit": 200}
    assert api.asked[1][1] == f"{BASE}/{LIVE}/pause"


def test_a_deployment_that_is_not_there_is_told(api: Api) -> None:
    api.found = []
    with pytest.raises(DeploymentUnknown, match="'writer' has no deployment in 'production'"):
        run("deployments", "show", "writer")


def test_apply_sends_documents_and_tells_the_servers_problems_by_line(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD + "  skills: [gone@1]\n")
    run("apply", "-f", str(tmp_path))
    assert api.asked[0][1] == "/api/v1/agents?environment=production"
    assert api.asked[0][2]["documents"][0]["spec"]["skills"] == [{"name": "gone", "version": "1"}]
    api.error = ManifestInvalid("documents[0].spec.skills[0]: skill 'gone' version '1' is not loaded")
    with pytest.raises(ManifestInvalid, match=r"a\.yaml:11:12: skill 'gone' version '1' is not loaded"):
        run("apply", "-f", str(file))


def test_apply_asks_nothing_of_the_api_when_a_file_is_wrong(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(GOOD.replace("tier", "teir"))
    with pytest.raises(ManifestInvalid, match=r"a\.yaml:10:3: unknown field 'teir' in spec — Did you mean 'tier'\?"):
        run("apply", "-f", str(file))
    assert api.asked == []
