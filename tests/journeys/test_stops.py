"""Stopping agents over HTTP, on the real thing: it binds within the running run, it is proved, and it is undone."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentos.apps.cli import stops as commands
from agentos.evidence.effects import service as effects
from agentos.kernel.ids import OrgId
from tests.journeys.conftest import Platform, running
from tests.journeys.test_command_line import Shell, shell
from tests.journeys.test_identity import facts, person
from tests.runtime.runs.harness import DONE, calls

__all__ = ["shell"]  # a fixture of the command line's tests


async def stop(by: httpx.AsyncClient, kind: str, scope: str, target: str = "", **more: str) -> dict[str, Any]:
    answer = await by.post("/api/v1/stops", json={"kind": kind, "scope": scope, "target": target, **more})
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/api/v1/stops/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


async def waiting(platform: Platform, run_id: str, reason: str) -> dict[str, Any]:
    async with asyncio.timeout(30):
        while (why := (await platform.author.get(f"/api/v1/runs/{run_id}/why")).json()).get("reason") != reason:
            await asyncio.sleep(0.03)
    found: dict[str, Any] = why
    return found


async def under_way(platform: Platform, name: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while platform.world.count(name) < times:
            await asyncio.sleep(0.01)


async def test_an_entry_of_the_denylist_binds_within_the_running_run(platform: Platform) -> None:
    await platform.apply([calls(("look", 1)), calls(("note", 2)), calls(("look", 3)), DONE], ["look", "note"])
    go = asyncio.Event()
    platform.world.next("look", lambda _: _released(go))
    run = await platform.run()
    await under_way(platform, "look")
    path = "/api/v1/agents/policies/denylist"
    document = (await platform.author.get(path)).json()
    put = await platform.author.put(path, json={"skills": ["n*"], "revision": document["revision"]})
    assert (put.status_code, put.json()["skills"]) == (200, ["n*"])
    stale = await platform.author.put(path, json={"skills": [], "revision": document["revision"]})
    assert (stale.status_code, stale.json()["code"]) == (409, "denylist_changed")
    go.set()
    await platform.until(run["id"], "completed")
    assert platform.world.count("note") == 0
    journal = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
    (denied,) = [one for one in journal if one["status"] == "denied"]
    assert denied["meta"]["decision"] == "denylisted"


async def _released(go: asyncio.Event) -> dict[str, Any]:
    await asyncio.wait_for(go.wait(), 10)
    return {}


async def test_kill_prove_and_go_on(platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    applied = await platform.apply([calls(("note", 1), ("note", 2)), calls(("note", 3)), DONE], ["note"])
    platform.world.next("note", *[_slow] * 8)
    runs = [await platform.run() for _ in range(4)]
    await under_way(platform, "note", 4)
    killed = await stop(platform.author, "kill", "deployment", applied["deployment_id"], reason="it sends nonsense")
    for run in runs:
        assert (await waiting(platform, run["id"], "stopped"))["detail"] == killed["id"]
    late = await platform.run()
    await waiting(platform, late["id"], "stopped")
    proof = (await platform.author.get(f"/api/v1/stops/{killed['id']}/proof")).json()
    assert proof["effects_after"] == []
    assert {one["run_id"] for one in proof["on_the_wire"]} <= {run["id"] for run in runs}
    assert all(one["became"] == "ok" for one in proof["on_the_wire"])
    assert proof["runs_brought_to_rest"] == 4
    assert proof["time_to_stop_seconds"] > 0

    key = (await platform.author.get("/api/v1/signing-key")).json()["public_key"]
    assert effects.check(proof, pinned=key)["effects_after"] == 0
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    commands.verify(tmp_path / "proof.json", key)
    assert "pinned" in capsys.readouterr().out

    done = platform.world.count("note")
    lifted = await platform.author.delete(f"/api/v1/stops/{killed['id']}", params={"reason": "mended"})
    assert (lifted.status_code, lifted.json()["in_force"]) == (200, False)
    for run in (*runs, late):
        await platform.until(run["id"], "completed")
    assert platform.world.count("note") == 15, f"each effect once; {done} of them before the lift"
    assert len(set(platform.world.done)) == 15
    again = (await platform.author.get(f"/api/v1/stops/{killed['id']}/proof")).json()
    assert again["effects_after"] == [], "what came after the lift is not of the stop"
    listed = (
        await platform.author.get("/api/v1/agents/effects", params={"deployment": applied["deployment_id"]})
    ).json()
    assert len(listed["items"]) == 15
    first = (await platform.author.get("/api/v1/agents/effects", params={"limit": 10})).json()
    second = (
        await platform.author.get("/api/v1/agents/effects", params={"limit": 10, "cursor": first["next_cursor"]})
    ).json()
    assert [*first["items"], *second["items"]] == listed["items"]


async def _slow(_given: dict[str, Any]) -> dict[str, Any]:
    await asyncio.sleep(0.2)
    return {}


async def test_a_yes_under_a_kill_executes_once_after_the_lift(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    killed = await stop(platform.admin, "kill", "organization")
    answer = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert answer.status_code == 200, answer.text
    await waiting(platform, run["id"], "stopped")
    assert platform.world.count("pay") == 0
    await platform.admin.delete(f"/api/v1/stops/{killed['id']}")
    await platform.until(run["id"], "completed")
    assert platform.world.count("pay") == 1


async def test_whoever_may_not_is_refused_and_the_attempt_is_kept(platform: Platform) -> None:
    kill = {"kind": "kill", "scope": "organization"}
    wide = await platform.author.post("/api/v1/stops", json=kill)
    assert (wide.status_code, wide.json()["code"]) == (403, "not_allowed")
    foreign = await platform.admin.post("/api/v1/stops", json=kill | {"scope": "global", "confirm": "global"})
    assert (foreign.status_code, foreign.json()["code"]) == (403, "not_allowed")
    assert "platform" in foreign.json()["next"]
    async with platform.acting(await person(platform, "looker", "viewer")) as viewer:
        assert (await viewer.post("/api/v1/stops", json=kill)).status_code == 403
        assert (await viewer.get("/api/v1/stops")).status_code == 200
    kept = {(one["holder"], one["reason"]) for one in await facts(platform, "AccessRefused")}
    assert kept >= {
        ("author", "not_allowed:stops.organization"),
        ("admin", "not_allowed:stops.everything"),
        ("looker", "not_allowed:stops.order"),
    }
    assert all(one["address"] == "127.0.0.1" for one in await facts(platform, "AccessRefused"))
    async with platform.acting(await person(platform, "commander", "incident_commander")) as commander:
        made = await stop(commander, "kill", "organization")
        assert (await platform.author.delete(f"/api/v1/stops/{made['id']}")).status_code == 403
        assert (await commander.delete(f"/api/v1/stops/{made['id']}")).status_code == 200


async def test_everything_is_stopped_out_of_the_platforms_own_organization_with_the_word_typed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = OrgId("platforms_own")
    monkeypatch.setenv("AGENTOS_STOP_PLATFORM", own)
    async with running(database_url, monkeypatch, own) as platform:
        kill = {"kind": "kill", "scope": "global"}
        for typed in ({}, {"confirm": "yes"}):
            refused = await platform.admin.post("/api/v1/stops", json=kill | typed)
            assert (refused.status_code, refused.json()["code"]) == (409, "stop_unconfirmed")
        made = await stop(platform.admin, "kill", "global", confirm="global")
        try:
            async with platform.acting(await platform.stranger()) as stranger:
                seen = (await stranger.get(f"/api/v1/stops/{made['id']}")).json()
                assert (seen["scope"], seen["in_force"]) == ("global", True)
                lifting = await stranger.delete(f"/api/v1/stops/{made['id']}", params={"confirm": "global"})
                assert lifting.status_code == 403
            await platform.apply([calls(("note", 1)), DONE], ["note"])
            run = await platform.run()
            await waiting(platform, run["id"], "stopped")
            unconfirmed = await platform.admin.delete(f"/api/v1/stops/{made['id']}")
            assert (unconfirmed.status_code, unconfirmed.json()["code"]) == (409, "stop_unconfirmed")
        finally:
            lifted = await platform.admin.delete(f"/api/v1/stops/{made['id']}", params={"confirm": "global"})
        assert lifted.status_code == 200, lifted.text
        await platform.until(run["id"], "completed")


async def test_bad_requests_each_get_their_own_error(platform: Platform) -> None:
    wrong = []

    async def refused(expected: tuple[int, str], **body: str) -> None:
        answer = await platform.admin.post("/api/v1/stops", json=body)
        if (answer.status_code, answer.json()["code"]) != expected:
            wrong.append((expected, answer.text))

    await refused((422, "malformed_request"), kind="explode", scope="organization")
    await refused((422, "stop_malformed"), kind="kill", scope="skill", target="pay")
    await refused((422, "stop_malformed"), kind="deny", scope="skill", target="pay me")
    await refused((422, "stop_malformed"), kind="deny", scope="domain", target="https://example.com/")
    await refused((409, "stop_denies_everything"), kind="deny", scope="skill", target="*")
    await refused((404, "stop_target_unknown"), kind="kill", scope="deployment", target="dep_x")
    await refused((404, "stop_target_unknown"), kind="kill", scope="category", target="nothing")
    await refused((404, "stop_target_unknown"), kind="deny", scope="agent", target="nobody")
    nothing = await platform.admin.get("/api/v1/stops/stop_x/proof")
    assert (nothing.status_code, nothing.json()["code"]) == (404, "stop_unknown")
    entry = await stop(platform.admin, "deny", "skill", "*", confirm="*")
    unprovable = await platform.admin.get(f"/api/v1/stops/{entry['id']}/proof")
    assert (unprovable.status_code, unprovable.json()["code"]) == (404, "nothing_to_prove")
    assert wrong == []


async def test_kill_prove_and_resume_on_the_command_line(shell: Shell, tmp_path: Path) -> None:
    platform = shell.platform
    applied = await platform.apply([calls(("note", 1)), DONE], ["note"])
    (killed,) = await shell("kill", "tester", "--reason", "harm")
    assert (killed["scope"], killed["target"]) == ("deployment", applied["deployment_id"])
    run = await platform.run()
    await waiting(platform, run["id"], "stopped")
    assert [one["id"] for one in await shell("stops", "list")] == [killed["id"]]
    proof = await shell("stops", "proof", killed["id"])
    (tmp_path / "proof.json").write_text(json.dumps(proof))
    assert (await shell("stops", "verify", str(tmp_path / "proof.json")))["valid"] is True
    (tmp_path / "proof.json").write_text(json.dumps({**proof, "runs_brought_to_rest": 9}))
    assert (await shell("stops", "verify", str(tmp_path / "proof.json"), code=2))["code"] == "signature_wrong"
    (lifted,) = await shell("resume", "tester")
    assert lifted["id"] == killed["id"]
    await platform.until(run["id"], "completed")
    assert len(await shell("effects", "list", "--deployment", "tester")) == 1
    assert (await shell("kill", code=2))["code"] == "nothing_named"
    assert (await shell("resume", "tester", code=4))["code"] == "not_stopped"
    assert (await shell("kill", "--global", by="admin", code=3))["code"] == "not_allowed"
    assert (await shell("deny", "--skill", "*", code=5))["code"] == "stop_denies_everything"
    await shell("deny", "--skill", "n*", "--domain", "example.com")
    assert (await shell("stops", "denylist"))["domains"] == ["example.com"]
    await shell("resume", "--skill", "n*")
    assert (await shell("stops", "denylist"))["skills"] == []


async def test_too_many_runs_for_a_held_deployment_are_refused_with_when_to_come_back(platform: Platform) -> None:
    await platform.apply([DONE], [])
    platform.held.parts.settings = platform.held.parts.settings.model_copy(update={"held_most": 1})
    await stop(platform.admin, "pause", "organization")
    await platform.run()
    body = {"agent": "tester", "input": {"task_description": "go"}}
    refused = await platform.author.post("/api/v1/runs", json=body)
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_held")
    assert int(refused.headers["retry-after"]) == 60
