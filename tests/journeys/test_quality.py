"""Runs are scored and judged over HTTP; blockers and freezes stand, and what is not known is said so (R1.4, R1.16)."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.conftest import Platform
from tests.journeys.test_command_line import Shell
from tests.runtime.runs.harness import DONE, calls

QUALITY = "/api/v1/agents/quality"
GATE = {"metric": "success_rate", "comparator": ">=", "threshold": 0.9, "samples": 2, "lookback_seconds": 3600}


async def over(platform: Platform, status: str) -> dict[str, Any]:
    """A run that is over, and its score once it is there."""
    run = await platform.run()
    await platform.until(run["id"], status)
    async with asyncio.timeout(30):
        while (answer := await platform.author.get(f"{QUALITY}/runs/{run['id']}")).status_code == 404:
            await asyncio.sleep(0.05)
    return dict(answer.json())


async def judged(platform: Platform, applied: dict[str, Any]) -> dict[str, Any]:
    path = f"{QUALITY}/deployments/{applied['deployment_id']}/judgement"
    answer = await platform.author.get(path, params={"version": applied["version"]})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def test_an_organization_wide_blocker_blocks_a_version_that_fails(platform: Platform) -> None:
    applied = await platform.apply([calls(("look", 1))], ["look"], budgets={"turns": 1})
    assert (await judged(platform, applied))["may_be_promoted"] is True
    added = await platform.admin.post(f"{QUALITY}/gates", json=GATE)
    assert added.status_code == 201, added.text
    unknown = await judged(platform, applied)
    assert unknown["may_be_promoted"] is False
    assert "unknown, 0 of 2 samples" in unknown["blocking"][0]
    for _ in range(2):
        scored = await over(platform, "blocked")
        assert scored["score"] < 0.5
        assert "feedback" in scored["unknown"]
    failed = await judged(platform, applied)
    assert "failed with 0 (0 to" in failed["blocking"][0]
    assert failed["verdicts"][0]["samples"] == 2
    assert (await platform.admin.delete(f"{QUALITY}/gates/{added.json()['id']}")).status_code == 204
    assert (await judged(platform, applied))["may_be_promoted"] is True


async def test_a_freeze_blocks_with_perfect_data_and_drift_without_samples_is_unknown(platform: Platform) -> None:
    applied = await platform.apply([DONE], [])
    await platform.admin.post(f"{QUALITY}/gates", json=GATE)
    for _ in range(2):
        assert (await over(platform, "completed"))["score"] == 1.0
    assert (await judged(platform, applied))["may_be_promoted"] is True
    frozen = {"scope": "role", "target": "tests", "reason": "a quality drift event"}
    freeze = await platform.author.post(f"{QUALITY}/freezes", json=frozen)
    assert freeze.status_code == 201, freeze.text
    held = await judged(platform, applied)
    assert held["verdicts"][0]["result"] == "passed"
    assert "a quality drift event" in held["blocking"][0]
    lift = f"{QUALITY}/freezes/{freeze.json()['id']}/lift"
    assert (await platform.author.post(lift, json={"reason": "mine"})).status_code == 403
    assert (await platform.admin.post(lift, json={"reason": "over"})).json()["lifted_by"] == "admin"
    assert (await judged(platform, applied))["may_be_promoted"] is True

    drift = (await platform.author.get(f"{QUALITY}/drift", params={"scope": "role", "target": "tests"})).json()
    assert drift["drift"]["value"] is None
    assert drift["unknown"] == "2 of 30 runs in the window and 0 of 30 in its baseline"
    page = (await platform.nobody.get("/metrics")).text
    organization = (await platform.author.get("/api/v1/me")).json()["organization"]
    told = [line for line in page.splitlines() if line.startswith("agentos_quality_drift{")]
    assert not [line for line in told if organization in line]


async def test_what_people_say_of_a_run_is_kept_and_counts(platform: Platform) -> None:
    await platform.apply([DONE], [])
    run = (await over(platform, "completed"))["run_id"]
    word = {"run": run, "verdict": "rejected", "note": "wrong customer"}
    said = await platform.approver.post(f"{QUALITY}/feedback", json=word)
    assert said.status_code == 201, said.text
    (kept,) = (await platform.author.get(f"{QUALITY}/feedback", params={"run": run})).json()["items"]
    assert (kept["verdict"], kept["note"], kept["said_by"]) == ("rejected", "wrong customer", "approver")
    assert (await platform.author.get(f"{QUALITY}/runs/{run}")).json()["score"] == pytest.approx(5 / 9)
    page = (await platform.author.get(f"{QUALITY}/figures")).json()
    assert page["unscored"] == 0
    found = page["figures"]
    assert found["accepted_rate"]["value"] == 0.0
    assert found["accepted_rate"]["samples"] == 1
    told = (await platform.author.get(f"{QUALITY}/calibration")).json()
    assert told["brier"]["value"] == 1.0
    assert (await platform.author.post(f"{QUALITY}/recommendations", json={})).json()["items"] == []


async def test_a_gate_on_an_unknown_metric_is_refused_with_those_that_exist(platform: Platform) -> None:
    refused = await platform.admin.post(f"{QUALITY}/gates", json=GATE | {"metric": "vibes"})
    assert (refused.status_code, refused.json()["code"]) == (422, "quality_metric_unknown")
    assert "success_rate" in refused.json()["metrics"]
    known = (await platform.author.get(f"{QUALITY}/metrics")).json()["items"]
    assert [one["name"] for one in known if one["name"] == "drift"]
    missing = await platform.admin.post(f"{QUALITY}/gates", json=GATE | {"scope": "deployment"})
    assert missing.json()["code"] == "quality_scope_invalid"
    assert (await platform.author.post(f"{QUALITY}/gates", json=GATE)).status_code == 403


async def test_the_command_line_judges_freezes_and_says_what_is_unknown(platform: Platform, tmp_path: Path) -> None:
    shell = Shell(platform, tmp_path)
    await platform.apply([DONE], [])
    run = (await over(platform, "completed"))["run_id"]
    scored = await shell("quality", "score", run)
    assert scored["score"] == 1.0
    grounds = {one["part"]: one["value"] for one in scored["confidence_parts"]}
    assert grounds == {"mean": 1.0, "judged": 0, "accepted": 0}
    assert (await shell("quality", "feedback", run, "edited", "--note", "a comma"))["verdict"] == "edited"
    assert (await shell("quality", "figures", "--role", "tests"))["figures"]["runs"]["value"] == 1.0
    assert (await shell("quality", "calibration"))["brier"]["samples"] == 1
    assert (await shell("quality", "drift", "--deployment", "tester"))["drift"]["value"] is None
    refused = await shell("quality", "gates", "add", "vibes", ">=", "1", by="admin", code=2)
    assert refused["code"] == "quality_metric_unknown"
    gate = await shell("quality", "gates", "add", "success_rate", ">=", "0.9", "--deployment", "tester", by="admin")
    assert [one["id"] for one in (await shell("quality", "gates", "list"))["items"]] == [gate["id"]]
    judged = await shell("quality", "judge", "tester", "1")
    assert judged["may_be_promoted"] is False
    assert (await shell("quality", "gates", "remove", gate["id"], by="admin"))["removed"] is True
    await shell("quality", "freeze", "--agent", "tester", "--reason", "INC-0001")
    assert len((await shell("quality", "freezes"))["items"]) == 1
    await shell("quality", "unfreeze", "--agent", "tester", "--reason", "over", by="admin")
    assert (await shell("quality", "unfreeze", "--agent", "tester", "--reason", "x", by="admin", code=4))[
        "code"
    ] == "freeze_unknown"
    assert (await shell("quality", "recommendations", "look", "--role", "tests"))["items"] == []
    assert (await shell("quality", "recommendations", "list", "--standing", "open"))["items"] == []
