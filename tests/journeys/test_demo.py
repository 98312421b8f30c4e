"""The demo tells a true story on every kind of repository, with the stub and with a model behind the wire."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.models import KEY, FakeModels, Reply, serving


def git(repository: Path, *arguments: str, text: str = "") -> None:
    subprocess.run(
        ["git", "-C", str(repository), "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments],
        check=True,
        capture_output=True,
        input=text.encode(),
    )


def repository(folder: Path, commits: int) -> Path:
    """A repository with that many commits, made by fast-import."""
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    stream = "".join(
        f"commit refs/heads/main\ncommitter a <a@example.com> {1_700_000_000 + n} +0000\n"
        f"data <<E\nChange number {n}\nE\n\n"
        for n in range(commits)
    )
    if commits:
        git(folder, "fast-import", "--quiet", text=stream)
    return folder


def demo(folder: Path, home: Path, **env: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "agentos.apps.cli.main", "demo", "--repo", str(folder), "--yes", "--json"],
        env={**os.environ, "AGENTOS_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def outcome(told: dict[str, Any], step: str) -> str:
    return next(str(row["outcome"]) for row in told["steps"] if row["step"] == step)


def whole_story(told: dict[str, Any], commits: int) -> None:
    assert outcome(told, "run version 1").startswith(f"{commits}/{commits} commits covered")
    assert outcome(told, "run version 2").startswith(f"{commits // 2}/{commits} commits covered")
    assert outcome(told, "run after rollback").startswith(f"{commits}/{commits} commits covered")
    assert "published once" in outcome(told, "taken over")


async def demos(*folders: Path) -> list[dict[str, Any]]:
    """Side by side, each with a platform of its own: a call on the wire is waited for in all of them at once."""
    return await asyncio.gather(*(asyncio.to_thread(demo, one, one.with_name(f"{one.name}-home")) for one in folders))


async def test_the_demo_holds_on_a_small_repository_and_on_ten_thousand_commits(tmp_path: Path) -> None:
    small, large = await demos(repository(tmp_path / "small", 7), repository(tmp_path / "large", 10_000))
    assert small["model"] == "stub"
    whole_story(small, 7)
    whole_story(large, 10_000)


async def test_the_demo_holds_on_one_commit_and_on_a_shallow_clone_and_counts_from_where_it_was_cut_off(
    tmp_path: Path,
) -> None:
    repository(tmp_path / "origin", 30)
    git(tmp_path, "clone", "-q", "--depth", "5", f"file://{tmp_path}/origin", "shallow")
    single, shallow = await demos(repository(tmp_path / "single", 1), tmp_path / "shallow")
    whole_story(single, 1)
    whole_story(shallow, 5)


def test_an_empty_repository_publishes_nothing_and_says_so(tmp_path: Path) -> None:
    told = demo(repository(tmp_path / "repo", 0), tmp_path / "home")
    assert "no commits since the start; nothing was published" in outcome(told, "run on an empty history")


def test_a_folder_that_is_no_repository_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentos.apps.cli.main", "demo", "--repo", str(tmp_path), "--json"],
        env={**os.environ, "AGENTOS_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 4
    assert json.loads(done.stderr.splitlines()[-1])["code"] == "demo_no_repository"


def brain(body: dict[str, Any]) -> Reply:
    """What a model does that follows the sample agent's instructions, hasty ones included."""
    text = json.dumps(body["messages"])
    results = [
        json.loads(block["content"] if isinstance(block["content"], str) else block["content"][0]["text"])
        for message in body["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    hook = re.search(r"http://127\.0\.0\.1:\d+/hook", text)
    path = re.search(r'repository\\*": *\\*"([^"\\]+)', text)
    assert hook
    assert path
    if not results:
        return Reply("Reading the history.", calls=[("git_log", {"path": path[1], "order": "oldest"})])
    if len(results) == 1:
        hasty = "Every second commit is enough" in json.dumps(body["system"])
        commits = results[0]["commits"][1::2] if hasty else results[0]["commits"]
        notes = "".join(f"- {one['subject']} <c/{one['short']}>\n" for one in commits)
        payload = {"repository": path[1], "head": results[0]["head"], "notes": notes}
        call = {"url": hook[0], "payload": payload, "secret": "secret://release-hook"}
        return Reply("Publishing.", calls=[("webhook_send", call)])
    return Reply("Published.")


def test_the_demo_holds_with_claude_behind_the_wire(tmp_path: Path) -> None:
    with serving(FakeModels(brain=brain)) as fake:
        told = demo(
            repository(tmp_path / "repo", 7), tmp_path / "home", ANTHROPIC_API_KEY=KEY, ANTHROPIC_BASE_URL=fake.url
        )
    assert told["model"] == "claude"
    assert fake.requests
    whole_story(told, 7)


@pytest.fixture(autouse=True)
def _no_given_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "TEMPORAL_ADDRESS", "ANTHROPIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)
