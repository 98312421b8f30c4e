"""The command line against a running platform: verbs, --json, and exit codes by kind of error."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Platform, document
from tests.runtime.runs.harness import DONE, calls


class Shell:
    """Runs ``agentos`` as a person of the platform."""

    def __init__(self, platform: Platform, home: Path) -> None:
        self.platform, self.home = platform, home

    async def __call__(self, *words: str, by: str = "author", code: int = 0) -> Any:
        client = getattr(self.platform, by)
        key = client.headers.get("authorization", "Bearer ").removeprefix("Bearer ")
        env = {**os.environ, "AGENTOS_API": self.platform.address, "AGENTOS_KEY": key, "AGENTOS_HOME": str(self.home)}
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "agentos.apps.cli.main", "--json", *words],
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        text = done.stdout if code == 0 or done.stdout else done.stderr.splitlines()[-1]
        return json.loads(text) if text.strip() else None


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    return Shell(platform, tmp_path)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    file = tmp_path / "tester.yaml"
    file.write_text(json.dumps(document([calls(("pay", 1)), DONE], ["pay"], tier="L3")))
    return file


async def test_apply_run_approve_and_see_what_happened(shell: Shell, manifest: Path) -> None:
    (applied,) = (await shell("apply", "-f", str(manifest)))["applied"]
    assert (await shell("agents", "list"))[0]["id"] == "tester"
    run = await shell("run", "tester", "--input", "go")
    assert run["input"] == {"task_description": "go"}
    await shell.platform.question(run["id"])
    assert (await shell("runs", "why", run["id"]))["reason"] == "approval"
    (asked,) = await shell("approvals", "list", by="approver")
    assert (await shell("approvals", "approve", asked["id"], code=3))["code"] == "not_allowed"
    assert (await shell("approvals", "approve", asked["id"], "--note", "ok", by="approver"))["status"] == "approved"
    await shell.platform.until(run["id"], "completed")
    shown = await shell("runs", "show", run["id"], "--journal")
    assert [step["key"] for step in shown["journal"]] == ["t0", "t0.c0!ask", "t0.c0~1", "t0.c0", "t1"]
    assert (await shell("approvals", "show", asked["id"]))["answers"][0]["handle"] == "approver"
    assert (await shell("deployments", "show", applied["deployment_id"]))["state"] == "active"


async def test_following_a_run_shows_its_end(shell: Shell) -> None:
    await shell.platform.apply([calls(("look", 1)), DONE], ["look"])
    run = await shell("run", "tester", "--input", "go", "--follow")
    assert (run["status"], run["output"]) == ("completed", "done")


async def test_orders_and_drafts(shell: Shell, manifest: Path) -> None:
    (applied,) = (await shell("apply", "-f", str(manifest)))["applied"]
    run = await shell("run", "tester", "--input", "go")
    await shell.platform.question(run["id"])
    assert (await shell("runs", "resume", run["id"], code=5))["code"] == "run_not_paused"
    await shell("runs", "pause", run["id"])
    await shell.platform.until(run["id"], "paused")
    await shell("runs", "resume", run["id"])
    await shell.platform.until(run["id"], "waiting_approval")
    await shell("runs", "cancel", run["id"])
    await shell.platform.until(run["id"], "cancelled")
    await shell("deployments", "tier", applied["deployment_id"], "L1")
    recommended = await shell("run", "tester", "--input", "go")
    await shell.platform.until(recommended["id"], "completed")
    (draft,) = await shell("drafts", "list")
    submitted = await shell("drafts", "submit", draft["id"])
    assert (await shell.platform.question(submitted["id"]))["arguments"] == {"n": 1}
    assert (await shell("drafts", "discard", draft["id"], code=5))["code"] == "draft_settled"


async def test_errors_end_in_their_kinds_exit_code(shell: Shell, tmp_path: Path) -> None:
    assert (await shell("runs", "show", "run_x", code=4))["code"] == "run_unknown"
    assert (await shell("run", "nobody", code=4))["code"] == "agent_unknown"
    assert (await shell("run", "tester", "--input", "{", code=2))["code"] == "input_unreadable"
    assert (await shell("runs", "list", by="nobody", code=4))["code"] == "no_credentials"
    broken = tmp_path / "broken.yaml"
    broken.write_text("apiVersion: agentos/v1\nkind: Agent\nmetadata: {name: a, category: b, owner: c}\nspecs: {}\n")
    problem = await shell("apply", "-f", str(broken), code=2)
    assert problem["code"] == "manifest_invalid"
    assert "broken.yaml:4:1" in problem["detail"]


async def test_health_is_probed(shell: Shell) -> None:
    async with asyncio.timeout(20):
        while not (await shell.platform.nobody.get("/health/ready")).json()["ready"]:
            await asyncio.sleep(0.1)
    assert (await shell("health"))["ready"] is True


async def test_approvals_are_routed_handed_over_and_proved_at_the_command_line(
    shell: Shell, manifest: Path, tmp_path: Path
) -> None:
    routing = tmp_path / "routing.yaml"
    routing.write_text("rules: [{effects: [S3], stages: [{approvers: [admin]}]}]\nladder: [[approver]]\n")
    assert (await shell("approvals", "routing", "--set", str(routing), by="admin"))["ladder"] == [["approver"]]
    assert (await shell("approvals", "routing"))["changed_by"] == "admin"
    await shell("apply", "-f", str(manifest))
    run = await shell("run", "tester", "--input", "go")
    asked = await shell.platform.question(run["id"])
    assert (await shell("approvals", "approve", asked["id"], by="approver", code=3))["code"] == "approval_not_for_you"
    handed = await shell("approvals", "reroute", "--approval", asked["id"], by="admin")
    assert handed["items"][0]["id"] == asked["id"]
    assert (await shell("approvals", "receipt", asked["id"], code=5))["code"] == "approval_not_decided"
    assert (await shell("approvals", "approve", asked["id"], by="approver"))["status"] == "approved"
    assert (await shell("approvals", "show", asked["id"]))["clock"]["handed_over"][0]["by"] == "admin"
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps(await shell("approvals", "receipt", asked["id"])))
    found = await shell("approvals", "verify", str(receipt))
    assert (found["valid"], found["status"], found["approved_by"]) == (True, "approved", ["approver"])
    assert (await shell("approvals", "verify", str(receipt), "--key", "AAAA", code=2))["code"] == "foreign_key"
    assert (await shell("approvals", "verify", str(routing), code=2))["code"] == "not_signed"
    assert (await shell("approvals", "verify", str(tmp_path / "none"), code=2))["code"] == "file_unreadable"


async def test_rules_of_privacy_are_shown_and_changed_in_part(shell: Shell) -> None:
    assert (await shell("privacy", "rules"))["template"] == "[REDACTED: {type}]"
    assert (await shell("privacy", "rules", "--mode", "remove", code=3))["code"] == "not_allowed"
    changed = await shell("privacy", "rules", "--mode", "remove", "--region", "DE", by="admin")
    assert (changed["mode"], changed["regions"], changed["changed_by"]) == ("remove", ["DE"], "admin")
    again = await shell("privacy", "rules", "--template", "<{type}>", by="admin")
    assert (again["mode"], again["template"]) == ("remove", "<{type}>")
