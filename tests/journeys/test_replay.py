"""A run is executed again to the same hash: after every process was killed, over HTTP, and from the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentos.apps.embedded import verbs
from agentos.apps.embedded.home import Home
from tests.fakes.models import KEY, FakeModels, Reply, serving
from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell
from tests.runtime.runs.harness import DONE, calls

GOLDEN_KEY = "a key of this very journey"


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    return Shell(platform, tmp_path)


async def test_a_run_replays_over_http_and_what_came_of_it_stays(shell: Shell) -> None:
    platform = shell.platform
    applied = await platform.apply([calls(("look", 1), ("note", 2)), DONE], ["look", "note"])
    run = await platform.run()
    await platform.until(run["id"], "completed")
    found = await shell("replay", run["id"])
    assert found["is_equal"]
    assert found["recorded_hash"] == found["replayed_hash"]
    health = (await platform.nobody.get("/health/determinism")).json()
    assert health["last_replay_hash"] == found["replayed_hash"]
    page = (await platform.nobody.get("/metrics")).text
    assert any(line.startswith("aos_determinism_drift{") and line.endswith(" 0.0") for line in page.splitlines())
    refused = await platform.approver.post(f"/api/v1/runs/{run['id']}/replay")
    assert refused.status_code == 403
    policy = shell.home / "policy.json"
    policy.write_text(json.dumps({"organization": {"disabled": ["note"]}}))
    tried = await shell("replay", "--with", f"policy={policy}", "--deployment", applied["deployment_id"], "--last", "5")
    assert (tried["runs"], tried["diverged"]) == (1, 1)
    assert tried["results"][0]["divergence"]["class"] == "policy"
    assert (await shell("replay", code=2))["code"] == "replay_refused"
    assert (await shell("replay", run["id"], "--with", "speed=9", code=2))["code"] == "replay_refused"


async def test_a_golden_file_is_recorded_and_checked_from_the_command_line(
    shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform, file = shell.platform, shell.home / "golden.json"
    await platform.apply([calls(("look", 1)), DONE], ["look"])
    run = await platform.run()
    await platform.until(run["id"], "completed")
    assert (await shell("golden", "record", run["id"], code=7))["code"] == "golden_key_unusable"
    monkeypatch.setenv("AGENTOS_GOLDEN_KEY", GOLDEN_KEY)
    recorded = await shell("golden", "record", run["id"], "-o", str(file))
    (checked,) = await shell("golden", "verify", str(file))
    assert (checked["status"], checked["content_hash"]) == ("ok", recorded["content_hash"])
    assert (await shell("replay", run["id"]))["replayed_hash"] == recorded["content_hash"]
    file.write_bytes(file.read_bytes()[:-20])
    done = subprocess.run(
        [sys.executable, "-m", "agentos.apps.cli.main", "--json", "golden", "verify", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, json.loads(done.stdout)[0]["status"]) == (2, "golden_tampered")


def agentos(home: Path, *words: str, **env: str) -> Any:
    given = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "TEMPORAL_ADDRESS")}
    done = subprocess.run(
        [sys.executable, "-m", "agentos.apps.cli.main", "--json", *words],
        env={**given, "AGENTOS_HOME": str(home), **env},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, (words, done.stdout[-2000:], done.stderr[-2000:])
    return json.loads(done.stdout) if done.stdout.strip() else None


def brain(body: dict[str, Any]) -> Reply:
    """Reads the file, writes what it found, and says so."""
    results = [one for message in body["messages"] for one in message["content"] if isinstance(one, dict)]
    told = [one for one in results if one.get("type") == "tool_result"]
    if not told:
        return Reply("Reading.", calls=[("read_file", {"path": "in.txt"})])
    if len(told) == 1:
        return Reply("Writing.", calls=[("file_write", {"path": "out.txt", "text": "read"})])
    return Reply("Written.")


MANIFEST = {
    "apiVersion": "agentos/v1",
    "kind": "Agent",
    "metadata": {"name": "copier", "category": "tests", "owner": "testers"},
    "spec": {
        "instructions": "Read in.txt and write out.txt.",
        "model": {"provider": "claude", "name": "claude-sonnet-4-5"},
        "skills": [{"name": "read_file", "version": "1"}, {"name": "file_write", "version": "1"}],
        "tier": "L4",
    },
}


@pytest.mark.timeout(290)
def test_a_run_with_claude_replays_equal_after_every_process_was_killed(tmp_path: Path) -> None:
    home, files = tmp_path / "home", tmp_path / "files"
    files.mkdir()
    (files / "in.txt").write_text("something to read")
    (tmp_path / "copier.json").write_text(json.dumps(MANIFEST))
    try:
        with serving(FakeModels(brain=brain)) as fake:
            env = {
                "ANTHROPIC_API_KEY": KEY,
                "ANTHROPIC_BASE_URL": fake.url,
                "AGENTOS_RUN_ROOTS": str(files),
                "AGENTOS_GOLDEN_KEY": GOLDEN_KEY,
            }
            agentos(home, "up", **env)
            agentos(home, "apply", "-f", str(tmp_path / "copier.json"), **env)
            run = agentos(home, "run", "copier", "--input", "go", "--follow", **env)
            assert (run["status"], run["output"]) == ("completed", "Written.")
            recorded = agentos(home, "golden", "record", run["id"], "-o", str(tmp_path / "golden.json"), **env)
            state = Home(home).state()
            asked = len(fake.requests)
            for pid in [state.pid, *(one.pid for one in state.services)]:
                if pid:
                    os.kill(pid, signal.SIGKILL)
            (files / "out.txt").unlink()
        env["ANTHROPIC_BASE_URL"] = "http://127.0.0.1:9"  # nobody answers there
        agentos(home, "up", **env)
        found = agentos(home, "replay", run["id"], **env)
        assert found["is_equal"]
        assert found["replayed_hash"] == recorded["content_hash"]
        assert len(fake.requests) == asked
        assert not (files / "out.txt").exists()
        (checked,) = agentos(home, "golden", "verify", str(tmp_path / "golden.json"), **env)
        assert checked["content_hash"] == found["replayed_hash"]
    finally:
        verbs.down(Home(home), say=lambda _text: None)
