"""A bad version over HTTP: refused by its gate, forced through, rolled back as a canary, and the recovery reported."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.apps.parts import Catalogue
from agentos.kernel.clock import now
from agentos.kernel.outbox import consume
from agentos.operations.rollouts import watch
from agentos.operations.shadows.showing import Shadows
from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell
from tests.operations.rollouts.desk import SETTINGS, document

BASE = "/api/v1/agents/deployments"
GATE = {"metric": "success_rate", "comparator": ">=", "threshold": 0.9, "lookback_seconds": 86400, "samples": 3}


async def apply(platform: Platform, name: str, **spec: Any) -> dict[str, Any]:
    answer = await platform.author.post("/api/v1/agents", json={"documents": [document(name, **spec)]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()["applied"][0]
    return found


async def ran(platform: Platform, tasks: list[str], **more: Any) -> list[dict[str, Any]]:
    """Runs that are over and counted."""
    found = []
    for task in tasks:
        body = {"agent": "tester", "input": {"task_description": task}, **more}
        answer = await platform.author.post("/api/v1/runs", json=body)
        assert answer.status_code == 202, answer.text
        found.append(await platform.until(answer.json()["id"], "completed", "failed"))
    async with asyncio.timeout(30):
        while not await scored(platform, [one["id"] for one in found]):
            await asyncio.sleep(0.05)
    return found


async def scored(platform: Platform, run_ids: list[str]) -> bool:
    rows = [(await platform.author.get(f"/api/v1/agents/quality/runs/{one}")) for one in run_ids]
    return all(one.status_code == 200 for one in rows)


async def look(platform: Platform, later: timedelta = timedelta()) -> None:
    """What every worker does every few seconds."""
    parts = platform.held.parts
    await watch.tick(parts.doors, Catalogue(parts.registry), SETTINGS, parts.meter, now() + later)


@pytest.fixture
def shell(platform: Platform, tmp_path: Path) -> Shell:
    return Shell(platform, tmp_path)


async def test_a_bad_version_is_refused_forced_rolled_back_by_itself_and_the_recovery_is_reported(
    platform: Platform,
) -> None:
    first = await apply(platform, "rollouts_good")
    one = f"{BASE}/{first['deployment_id']}"
    await ran(platform, ["easy", "hard", "easy", "hard"])
    second = await apply(platform, "rollouts_bad")

    refused = await platform.author.post(f"{one}/promote", json={"version": second["version"], "what_if": 4})
    assert (refused.status_code, refused.json()["code"]) == (409, "gate_failed")
    assert refused.json()["what_if"]["outcomes_changed"] == 2
    assert refused.json()["blocking"] == ["what-if: 2 of 4 runs end otherwise (50.0 %), at most 0 % may"]
    forced = {"version": second["version"], "force": True, "reason": "the customer waits"}
    assert (await platform.author.post(f"{one}/promote", json=forced)).status_code == 403
    too_many = await platform.author.post(f"{one}/canary", json={"version": second["version"], "percent": 150})
    assert (too_many.status_code, too_many.json()["code"]) == (422, "bad_share")

    begun = await platform.admin.post(f"{one}/canary", json=forced | {"percent": 50})
    assert begun.status_code == 200, begun.text
    assert begun.json()["canary"]["percent"] == 50
    sides: dict[str, str] = {}
    for number in range(60):
        (run,) = await ran(platform, ["hard"], assignment_key=f"customer-{number % 30}")
        key = f"customer-{number % 30}"
        assert sides.setdefault(key, run["version"]) == run["version"], "a key stays on its side"
        await look(platform)
        if (await platform.author.get(one)).json()["canary"] is None:
            break
    shown = (await platform.author.get(one)).json()
    assert (shown["version"], shown["canary"], shown["history"][0]["status"]) == (first["version"], None, "rolled_back")
    assert "success_rate of the canary 0 (" in shown["history"][0]["reason"]
    (canary,) = (await platform.author.get(f"{one}/canary")).json()["items"]
    assert canary["outcome"] == "rolled_back"
    assert canary["figures"]["success_rate"]["beside"]["value"] == 1.0
    async with asyncio.timeout(30):
        while not (found := await threads(platform, first["deployment_id"])):
            await asyncio.sleep(0.05)
    assert "rollouts" in found[0]["title"]
    page = (await platform.nobody.get("/metrics")).text
    assert "agentos_rollbacks_total{" in page
    assert 'cause="canary"' in page

    promoted = await platform.admin.post(f"{one}/promote", json=forced)
    assert promoted.json()["version"] == second["version"]
    (bad,) = await ran(platform, ["hard"])
    assert (bad["version"], bad["status"]) == (second["version"], "failed")
    etag = promoted.headers["ETag"]
    stale = await platform.author.post(f"{one}/rollback", headers={"If-Match": '"1"'})
    assert stale.status_code == 412
    back = await platform.author.post(f"{one}/rollback", headers={"If-Match": etag})
    assert back.json()["version"] == first["version"], back.text
    runs = await ran(platform, ["hard"] * 3)
    assert {run["version"] for run in runs} == {first["version"]}
    await look(platform)
    number = back.json()["revision"]
    found = (await platform.author.get(f"{one}/rollbacks/{number}")).json()
    checks = {check["check"]: check for check in found["checks"]}
    assert (checks["dispatch"]["outcome"], checks["success"]["outcome"]) == ("passed", "passed")
    assert checks["success"]["figures"]["success_rate"] == 1.0
    never = await platform.author.post(f"{one}/rollback", json={"version": "9"})
    assert never.status_code == 404
    third = await apply(platform, "rollouts_good", instructions="Third.")
    never = await platform.author.post(f"{one}/rollback", json={"version": third["version"]})
    assert (never.status_code, never.json()["code"]) == (409, "never_served")


async def threads(platform: Platform, about: str) -> list[dict[str, Any]]:
    answer = await platform.admin.get("/api/v1/inbox/threads", params={"state": "open", "about": about})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_an_organization_wide_gate_and_a_freeze_block_over_http(platform: Platform) -> None:
    first = await apply(platform, "rollouts_good")
    one = f"{BASE}/{first['deployment_id']}"
    second = await apply(platform, "rollouts_good", instructions="Second.")
    wanted = {"version": second["version"]}
    gate = await platform.admin.post("/api/v1/agents/quality/gates", json=GATE)
    assert gate.status_code == 201, gate.text
    refused = await platform.author.post(f"{one}/promote", json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (409, "gate_failed")
    assert refused.json()["gates"][0]["result"] == "unknown"
    looked = (await platform.author.get(f"{one}/impact", params=wanted)).json()
    assert looked["blocking"] == refused.json()["blocking"]
    most = wanted | {"percent": 99}
    refused = await platform.author.post(f"{one}/canary", json=most)  # most runs, and nothing is known of it
    assert (refused.status_code, refused.json()["code"]) == (409, "gate_failed")
    begun = await platform.admin.post(f"{one}/canary", json=most | {"force": True, "reason": "to gather samples"})
    assert begun.status_code == 200, begun.text
    await ran(platform, ["easy"] * 4)
    tried = await platform.author.post(f"{one}/promote", params={"dry_run": True}, json=wanted)
    assert (tried.json()["dry_run"], tried.json()["version"]) == (True, second["version"])
    assert (await platform.author.get(one)).json()["version"] == first["version"]
    frozen = {"scope": "organization", "reason": "audit"}
    assert (await platform.admin.post("/api/v1/agents/quality/freezes", json=frozen)).status_code == 201
    refused = await platform.author.post(f"{one}/promote", json=wanted)
    assert (refused.status_code, refused.json()["code"]) == (409, "promotion_frozen")
    forced = wanted | {"force": True, "reason": "now"}
    assert (await platform.admin.post(f"{one}/promote", json=forced)).json()["code"] == "promotion_frozen"


async def test_a_gate_on_recorded_runs_is_set_once_and_holds_every_promotion_over_http(platform: Platform) -> None:
    first = await apply(platform, "rollouts_good")
    one = f"{BASE}/{first['deployment_id']}"
    await ran(platform, ["easy", "hard", "hard"])
    second = await apply(platform, "rollouts_bad")
    wanted = {"metric": "what_if:changed", "comparator": "<=", "threshold": 0, "samples": 3}
    gate = await platform.admin.post("/api/v1/agents/quality/gates", json=GATE | wanted)
    assert gate.status_code == 201, gate.text
    looked = (await platform.author.get(f"{one}/impact", params={"version": second["version"]})).json()
    assert "unknown, 0 of 3 recorded runs tried" in looked["blocking"][0]
    refused = await platform.author.post(f"{one}/promote", json={"version": second["version"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "gate_failed")
    (told,) = refused.json()["gates"]
    assert (told["result"], round(told["value"], 2), told["samples"]) == ("failed", 0.67, 3)
    third = await apply(platform, "rollouts_good", instructions="Third.")
    promoted = await platform.author.post(f"{one}/promote", json={"version": third["version"]})
    assert promoted.json()["version"] == third["version"], promoted.text
    assert "1 of 1 gates passed" in promoted.json()["history"][0]["reason"]


async def test_the_verbs_of_rollouts_work_as_they_are_printed(shell: Shell) -> None:
    platform = shell.platform
    first = await apply(platform, "rollouts_good")
    deployment = first["deployment_id"]
    await ran(platform, ["easy"])
    await apply(platform, "rollouts_good", instructions="Second.")
    found = await shell("deployments", "impact", "tester", "--version", "2")
    assert found["said"] == ["No run is open."]
    assert (await shell("deployments", "promote", "tester", "2", "--what-if", "5", "--dry-run"))["what_if"]["passed"]
    assert (await shell("deployments", "canary", "tester", "2", "150", code=2))["code"] == "bad_share"
    assert (await shell("deployments", "canary", "tester", "2", "10"))["canary"]["percent"] == 10
    assert (await shell("deployments", "canary", "tester", "2", "20"))["canary"]["percent"] == 20
    assert (await shell("deployments", "end-canary", "tester", "--reason", "enough"))["canary"] is None
    assert [one["outcome"] for one in await shell("deployments", "canaries", "tester")] == ["superseded"]
    await shell("deployments", "promote", "tester", "2", "--what-if", "5")
    await shell("deployments", "rollback", "tester", "--reason", "worse", "--criterion", "new_issues")
    assert (await shell("deployments", "validation", "tester"))["outcome"] == "waiting"
    assert [one["criterion"] for one in await shell("deployments", "rollbacks", "tester")] == ["new_issues"]
    assert (await shell("deployments", "pause", deployment))["impact"]["change"] == "pause"
    assert (await shell("deployments", "resume", deployment))["state"] == "active"
    assert (await shell("deployments", "tier", "tester", "L1", "--dry-run"))["impact"]["change"] == "tier"
    assert (await shell("deployments", "show", "tester"))["tier"] == "L4"
    assert (await shell("deployments", "tier", "tester", "L1"))["tier"] == "L1"
    assert (await shell("deployments", "retire", "tester", "--dry-run"))["impact"]["said"] == ["No run is open."]
    assert (await shell("deployments", "retire", "tester"))["state"] == "retired"


async def test_a_shadow_is_shown_runs_as_they_end_and_has_no_effect(shell: Shell) -> None:
    platform = shell.platform
    first = await apply(platform, "rollouts_good")
    second = await apply(platform, "rollouts_bad")
    one = f"{BASE}/{first['deployment_id']}"
    assert (await platform.author.get(f"{one}/shadow")).json()["code"] == "shadow_unknown"
    await shell("deployments", "shadow", "tester", "2")
    stop = asyncio.Event()
    parts = platform.held.parts
    task = asyncio.create_task(consume(parts.database, [Shadows(parts).consumer()], stop))
    await ran(platform, ["easy", "hard"])
    async with asyncio.timeout(30):
        while (found := (await platform.author.get(f"{one}/shadow")).json())["came_to"]["runs"] < 2:
            await asyncio.sleep(0.05)
    stop.set()
    await task
    assert (found["version"], found["came_to"]["changed"], found["came_to"]["known"]) == (second["version"], 1, 2)
    rows = await shell("deployments", "shadow-runs", "tester")
    assert [row["outcome"] for row in rows] == ["changed", "same"]
    assert (await shell("deployments", "end-shadow", "tester"))["ended_at"]
