"""One agent's story over HTTP, on the real thing: each control in turn binds the very effect it is about."""

from __future__ import annotations

from datetime import timedelta

from agentos.control.approvals.ticker import tick
from agentos.evidence.effects import service as effects
from agentos.kernel.clock import now
from tests.journeys.conftest import Platform
from tests.journeys.test_approvals import PATH, code, route
from tests.journeys.test_identity import person
from tests.journeys.test_policy import last
from tests.journeys.test_stops import stop, waiting
from tests.runtime.runs.harness import DONE, calls

DENYLIST = "/api/v1/agents/policies/denylist"


async def test_the_tier_the_denylist_a_yes_the_clock_and_a_kill_bind_one_agent_in_turn(platform: Platform) -> None:
    world, author, approver = platform.world, platform.author, platform.approver
    backup = await person(platform, "backup", "approver")
    await route(platform, rules=[{"stages": [{"approvers": ["approver"]}]}], ladder=[["backup"]])
    applied = await platform.apply([calls(("pay", 5), ("note", 6)), DONE], ["pay", "note"], tier="L3")
    deployment = f"/api/v1/agents/deployments/{applied['deployment_id']}"

    async def asks() -> tuple[str, str]:
        """A new run's id, and the path of what it asks before it pays."""
        run = await platform.run()
        return run["id"], f"{PATH}/{(await platform.question(run['id']))['id']}"

    run, question = await asks()
    assert (await author.patch(deployment, json={"tier": "L1"})).json()["tier"] == "L1"
    assert (await approver.post(f"{question}/approve", json={})).status_code == 200
    await platform.until(run, "completed")
    assert world.done == [], "lowered, the effect that asked is a draft, and the yes does not change that"
    drafts = (await author.get("/api/v1/drafts")).json()["items"]
    assert {(one["run_id"], one["skill"]) for one in drafts} == {(run, "pay"), (run, "note")}
    assert (await author.patch(deployment, json={"tier": "L3"})).json()["tier"] == "L3"

    run, question = await asks()
    assert (await author.put(DENYLIST, json={"skills": ["no*"]})).status_code == 200
    assert (await approver.post(f"{question}/approve", json={})).status_code == 200
    await platform.until(run, "completed")
    assert (world.count("pay"), world.count("note")) == (1, 0), "approved once; denied within the run under way"
    assert (await last(platform, run, "t0.c1"))["meta"]["decision"] == "denylisted"
    assert await code(await approver.post(f"{question}/approve", json={})) == (409, "approval_decided")
    assert (await author.put(DENYLIST, json={"skills": []})).status_code == 200

    run, question = await asks()
    parts = platform.held.parts
    await tick(parts.doors, parts.meter, at=now() + timedelta(hours=1, minutes=1))
    shown = (await approver.get(question)).json()
    assert (shown["status"], shown["clock"]["asks"]) == ("pending", ["approver", "backup"])
    await tick(parts.doors, parts.meter, at=now() + timedelta(hours=2, minutes=1))
    await platform.until(run, "completed")
    assert (await last(platform, run, "t0.c0"))["content"]["code"] == "approval_expired"
    async with platform.acting(backup) as acting:
        assert await code(await acting.post(f"{question}/approve", json={})) == (409, "approval_decided")
    assert (world.count("pay"), world.count("note")) == (1, 1)

    run, question = await asks()
    killed = await stop(author, "kill", "deployment", applied["deployment_id"], reason="harm")
    late = (await platform.run())["id"]
    assert (await approver.post(f"{question}/approve", json={})).status_code == 200
    for one in (run, late):
        assert (await waiting(platform, one, "stopped"))["detail"] == killed["id"]
    proof = (await author.get(f"/api/v1/stops/{killed['id']}/proof")).json()
    assert (proof["effects_after"], proof["on_the_wire"]) == ([], [])
    key = (await platform.nobody.get("/api/v1/signing-key")).json()["public_key"]
    assert effects.check(proof, pinned=key)["effects_after"] == 0
    assert (world.count("pay"), world.count("note")) == (1, 1), "nothing since the order"
