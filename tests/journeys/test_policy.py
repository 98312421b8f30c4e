"""A story over HTTP: what people write in a policy binds the runs of their agents, and what they only ask does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.journeys.conftest import Platform
from tests.runtime.runs.harness import DONE, calls

ORGANIZATION = "/api/v1/agents/policies/organization"
CEDAR = '@id("no-pay") forbid(principal in Category::"tests", action, resource == Skill::"pay");'


async def put(platform: Platform, path: str, policy: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = await platform.admin.put(path, json={"policy": policy, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def last(platform: Platform, run_id: str, key: str) -> dict[str, Any]:
    steps = (await platform.author.get(f"/api/v1/runs/{run_id}/journal", params={"limit": 200})).json()["items"]
    return dict(next(one for one in steps if (one["key"], one["phase"]) == (key, "result")))


async def test_a_policy_is_written_binds_and_is_taken_back(platform: Platform) -> None:
    applied = await platform.apply([calls(("note", 1), ("pay", 2)), DONE], ["note", "pay"])
    run = await platform.run()
    await platform.question(run["id"])

    saved = await put(platform, ORGANIZATION, {"cedar": CEDAR, "disabled": ["note"]}, reason="an incident")
    assert (saved["number"], saved["etag"], saved["reason"], saved["saved_by"]) == (1, "1", "an incident", "admin")
    refused = await platform.run()
    await platform.until(refused["id"], "completed")
    assert (await last(platform, refused["id"], "t0.c0"))["meta"]["decision"] == "skill_disabled"
    denied = (await last(platform, refused["id"], "t0.c1"))["meta"]
    assert (denied["decision"], denied["reasons"]) == ("organization_rules", ["cedar: no-pay"])

    await put(platform, ORGANIZATION, {"trusted": ["pay"]})
    allowed = await platform.run()
    await platform.until(allowed["id"], "completed")
    assert (await last(platform, allowed["id"], "t0.c1"))["status"] == "ok"
    past = (await platform.author.get(f"{ORGANIZATION}/history")).json()["items"]
    assert [one["number"] for one in past] == [2, 1]

    own = f"/api/v1/agents/deployments/{applied['deployment_id']}/policy"
    assert (await platform.author.get(own)).json()["policy"] == {"deny": [], "allow": None, "ask": []}
    await put(platform, own, {"allow": ["note"]})
    narrowed = await platform.run()
    await platform.until(narrowed["id"], "completed")
    assert (await last(platform, narrowed["id"], "t0.c1"))["meta"]["decision"] == "skill_not_allowed"
    assert len((await platform.author.get(f"{own}/history")).json()["items"]) == 1


async def test_an_approval_does_not_beat_a_policy_that_denies_since(platform: Platform) -> None:
    await platform.apply([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    await put(platform, ORGANIZATION, {"deny": ["pa*"]})
    answer = await platform.approver.post(f"/api/v1/approvals/{question['id']}/approve", json={})
    assert answer.status_code == 200, answer.text
    await platform.until(run["id"], "completed")
    assert (await last(platform, run["id"], "t0.c0"))["meta"]["decision"] == "organization_denies"
    assert platform.world.count("pay") == 0


@pytest.mark.parametrize(
    ("body", "status", "code", "where"),
    [
        ({"policy": {"cedar": "permit(principal action, resource);"}}, 422, "policy_refused", "cedar:1:18"),
        ({"policy": {"deny": ["pay me"]}}, 422, "policy_refused", "deny[0]"),
        ({"policy": {"deny": ["*"]}}, 409, "policy_denies_everything", "organization"),
        ({"policy": {"denies": []}}, 422, "malformed_request", "body.policy.denies"),
    ],
)
async def test_a_bad_policy_is_refused_with_its_own_error_and_changes_nothing(
    platform: Platform, body: dict[str, Any], status: int, code: str, where: str
) -> None:
    answer = await platform.admin.put(ORGANIZATION, json=body)
    assert (answer.status_code, answer.json()["code"], answer.json()["where"]) == (status, code, where)
    assert (await platform.author.get(ORGANIZATION)).json()["number"] == 0


async def test_a_policy_changes_only_from_the_state_that_was_seen_and_only_with_the_permission(
    platform: Platform,
) -> None:
    seen = (await platform.admin.get(ORGANIZATION)).headers["etag"]
    await put(platform, ORGANIZATION, {"deny": ["a"]})
    late = await platform.admin.put(ORGANIZATION, json={"policy": {}}, headers={"If-Match": seen})
    assert (late.status_code, late.json()["code"]) == (412, "policy_changed_meanwhile")
    for client in (platform.author, platform.approver):
        answer = await client.put(ORGANIZATION, json={"policy": {}})
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")


async def test_deciding_simulating_and_backtesting_tell_and_change_nothing(platform: Platform) -> None:
    applied = await platform.apply([calls(("note", 1)), DONE], ["note", "pay"], tier="L3")
    run = await platform.run()
    await platform.until(run["id"], "completed")
    one = {"deployment_id": applied["deployment_id"]}
    said = (await platform.author.post("/api/v1/agents/policies/decide", json=one | {"skill": "pay"})).json()
    assert (said["verdict"], said["code"], said["approvers"], said["effect"]) == ("ask", "tier_matrix", 1, "S3")
    assert [rule["verdict"] for rule in said["rules"] if rule["code"] == "tier_matrix"] == ["ask"]

    proposed = {"organization": {"cedar": CEDAR}, "denylist": {"skills": ["no*"]}}
    simulated = await platform.author.post("/api/v1/agents/policies/simulate", json=one | {"proposed": proposed})
    assert simulated.json()["changed"] == 2
    report = await platform.author.post("/api/v1/agents/policies/backtest", json={"proposed": proposed, "since": "1h"})
    assert report.status_code == 200, report.text
    assert (report.json()["actions"], report.json()["blocked"]) == (1, 1)
    assert [(stopped["run_id"], stopped["skill"]) for stopped in report.json()["stopped"]] == [(run["id"], "note")]
    assert (await platform.author.get(ORGANIZATION)).json()["number"] == 0

    assert (report.json()["answers"], report.json()["refused"]) == ("unknown", [])
    proposed = {"denylist": {"providers": ["stub"]}, "budgets": {"caps": [{"period": "day", "money": "1.00"}]}}
    report = await platform.author.post("/api/v1/agents/policies/backtest", json={"proposed": proposed, "since": "1h"})
    figures = report.json()
    assert (figures["answers"], figures["answers_refused"], figures["runs_refused"]) == (2, 2, 1)
    assert [(refused["run_id"], refused["step"]) for refused in figures["refused"]] == [(run["id"], "t0")]
    assert figures["by_rule"] == [{"verdict": "deny", "code": "provider", "actions": 1}]
    proposed = {"budgets": {"caps": [{"period": "day"}, {"period": "day", "money": "-1"}]}}
    answer = await platform.author.post("/api/v1/agents/policies/backtest", json={"proposed": proposed, "since": "1h"})
    assert (answer.status_code, answer.json()["code"]) == (422, "malformed_money")
    assert answer.json()["where"] == "proposed.budgets.caps[1].money"

    odd = one | {"skill": "pay", "arguments": {"url": "https://HALF/"}}
    answer = await platform.author.post(
        "/api/v1/agents/policies/decide",
        content=json.dumps(odd).replace("HALF", "\\ud800"),
        headers={"Content-Type": "application/json"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "not_canonical")

    broken = {"proposed": {"organization": {"cedar": "permit("}}}
    for path, body in (("simulate", one | broken), ("backtest", broken)):
        answer = await platform.author.post(f"/api/v1/agents/policies/{path}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "policy_refused")
    answer = await platform.author.post("/api/v1/agents/policies/backtest", json={"proposed": {}, "since": "noon"})
    assert (answer.status_code, answer.json()["code"]) == (422, "bad_window")
