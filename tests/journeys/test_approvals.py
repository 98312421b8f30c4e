"""Over HTTP: a risky effect asks, is approved and happens once; nobody answers, and it escalates and ends in a no."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentos.apps.cli import approvals as verbs
from agentos.control.approvals import links
from agentos.control.approvals.ticker import tick
from agentos.kernel.clock import now
from agentos.kernel.ids import OrgId
from agentos.kernel.signing import SignatureWrong, Signer
from tests.journeys.conftest import Platform, signing_key
from tests.journeys.test_identity import person
from tests.runtime.runs.harness import DONE, calls

PATH = "/api/v1/approvals"
RISKY = [calls(("pay", 5)), DONE]


async def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def organization(platform: Platform) -> OrgId:
    return OrgId((await platform.admin.get("/api/v1/me")).json()["organization"])


async def route(platform: Platform, **routing: Any) -> None:
    answer = await platform.admin.put(f"{PATH}/routing", json=routing)
    assert answer.status_code == 200, answer.text


async def test_a_risky_effect_asks_shows_its_card_is_approved_and_happens_once(
    platform: Platform, tmp_path: Path
) -> None:
    await platform.apply(RISKY, ["pay"], tier="L3")
    before = await platform.run()
    earlier = await platform.question(before["id"])
    await platform.approver.post(f"{PATH}/{earlier['id']}/deny", json={"note": "not now"})
    await platform.until(before["id"], "completed")
    run = await platform.run()
    question = await platform.question(run["id"])
    shown = (await platform.approver.get(f"{PATH}/{question['id']}")).json()
    assert shown["asks"]["requested_by"] == "author"
    assert (shown["does"]["skill"], shown["does"]["effect"], shown["arguments"]) == ("pay@1", "S3", {"n": 5})
    assert shown["does"]["reversibility"] == "reversible"
    assert shown["blast_radius"]["environment"] == "production"
    assert (shown["similar"]["denied"], shown["similar"]["approved"]) == (1, 0)
    assert shown["similar"]["last"][0]["id"] == earlier["id"]
    assert shown["similar"]["last"][0]["same_arguments"] is True
    assert await code(await platform.approver.get(f"{PATH}/{question['id']}/receipt")) == (409, "approval_not_decided")
    answered = await platform.approver.post(f"{PATH}/{question['id']}/approve", json={"note": "fine"})
    assert answered.json()["status"] == "approved"
    for verb in ("approve", "deny"):
        late = await platform.admin.post(f"{PATH}/{question['id']}/{verb}", json={})
        assert await code(late) == (409, "approval_decided")
    await platform.until(run["id"], "completed")
    assert platform.world.count("pay") == 1
    steps = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
    intent = next(step for step in steps if step["phase"] == "intent")
    assert intent["meta"]["bound"] == shown["does"]["bound"]
    assert intent["meta"]["policy"] == intent["meta"]["asked_policy"]

    receipt = (await platform.approver.get(f"{PATH}/{question['id']}/receipt")).json()
    file = tmp_path / "receipt.json"
    file.write_text(json.dumps(receipt))
    key = (await platform.nobody.get("/api/v1/signing-key")).json()["public_key"]
    verbs.verify(file, key)
    file.write_text(json.dumps(receipt | {"status": "denied"}))
    with pytest.raises(SignatureWrong):
        verbs.verify(file, key)


async def test_a_no_blocks_the_run_with_its_reason_where_the_version_says_so(platform: Platform) -> None:
    await platform.apply(RISKY, ["pay"], tier="L3", onDenied="stop")
    run = await platform.run()
    question = await platform.question(run["id"])
    await platform.approver.post(f"{PATH}/{question['id']}/deny", json={"note": "over the limit of May"})
    ended = await platform.until(run["id"], "blocked", "completed", "failed")
    assert ended["status"] == "blocked"
    assert "denied by approver because: over the limit of May" in ended["problem"]["detail"]
    assert platform.world.count("pay") == 0


async def test_nobody_answers_so_it_goes_to_the_backup_and_ends_in_a_no(platform: Platform) -> None:
    backup = await person(platform, "backup", "approver")
    rule = {"effects": ["S3"], "stages": [{"approvers": ["approver"]}]}
    await route(platform, rules=[rule], ladder=[["backup"]])
    await platform.apply(RISKY, ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    parts = platform.held.parts
    async with platform.acting(backup) as acting:
        refused = await acting.post(f"{PATH}/{question['id']}/approve", json={})
        assert await code(refused) == (403, "approval_not_for_you")
    await tick(parts.doors, parts.meter, at=now() + timedelta(hours=1, minutes=1))
    shown = (await platform.approver.get(f"{PATH}/{question['id']}")).json()
    assert (shown["status"], shown["level"], shown["clock"]["asks"]) == ("pending", 1, ["approver", "backup"])
    metrics = (await platform.nobody.get("/metrics")).text
    backlog = rf'^drovi_agent_approval_backlog{{org="{await organization(platform)}"[^}}]*}} 1\.0$'
    assert re.search(backlog, metrics, re.MULTILINE), "an escalated approval still counts"
    await tick(parts.doors, parts.meter, at=now() + timedelta(hours=2, minutes=1))
    await platform.until(run["id"], "completed")
    assert platform.world.count("pay") == 0
    steps = (await platform.author.get(f"/api/v1/runs/{run['id']}/journal")).json()["items"]
    assert "approval_expired" in [step["content"].get("code") for step in steps if step["status"] == "denied"]
    late = await platform.approver.post(f"{PATH}/{question['id']}/approve", json={})
    assert await code(late) == (409, "approval_decided")


async def test_what_nobody_answers_becomes_a_draft_where_the_routing_says_so(platform: Platform) -> None:
    await route(platform, on_timeout={"S1": "draft", "S2": "draft"})
    refused = await platform.admin.put(f"{PATH}/routing", json={"on_timeout": {"S3": "draft"}})
    assert await code(refused) == (422, "bad_routing")
    await platform.apply([calls(("move", 5)), DONE], ["move"], tier="L2")
    run = await platform.run()
    await platform.question(run["id"])
    parts = platform.held.parts
    await tick(parts.doors, parts.meter, at=now() + timedelta(hours=2, minutes=1))
    await platform.until(run["id"], "completed")
    (draft,) = (await platform.author.get("/api/v1/drafts")).json()["items"]
    assert (draft["skill"], draft["arguments"]) == ("move", {"n": 5})
    assert platform.world.count("move") == 0


async def test_a_link_shows_on_get_decides_once_on_post_and_a_forged_one_opens_nothing(platform: Platform) -> None:
    await platform.apply(RISKY, ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    signer, org = Signer.load(signing_key()), await organization(platform)
    async with platform.held.parts.doors.open(org) as work:
        token = await links.create(work, signer, question["id"], handle="approver", at=now())
        mine = await links.create(work, signer, question["id"], handle="author", at=now())
        old = await links.create(
            work, signer, question["id"], handle="admin", at=now() - timedelta(hours=2), lasts=timedelta(hours=1)
        )
    path, nobody = links.PATH + token, platform.nobody
    for _ in range(2):
        shown = await nobody.get(path)
        assert (shown.status_code, shown.json()["status"]) == (200, "pending")
    assert shown.json()["answering_as"] == "approver"
    refused = await nobody.post(links.PATH + mine, json={"approved": True})
    assert refused.status_code == 403
    for forged in (token[:-3] + "AAA", "AAAA", "a.b", token.partition(".")[0], "x" * 1000):
        assert await code(await nobody.get(links.PATH + forged)) == (403, "approval_link_forged")
        answer = await nobody.post(links.PATH + forged, json={"approved": True})
        assert await code(answer) == (403, "approval_link_forged")
    expired = await nobody.post(links.PATH + old, json={"approved": True})
    assert await code(expired) == (409, "approval_link_expired")
    answered = await nobody.post(path, json={"approved": True, "note": "on the road"})
    assert (answered.status_code, answered.json()["status"]) == (200, "approved"), answer.text
    for again in (await nobody.get(path), await nobody.post(path, json={"approved": False})):
        assert await code(again) == (409, "approval_link_used")
    await platform.until(run["id"], "completed")
    assert platform.world.count("pay") == 1
    shown = (await platform.approver.get(f"{PATH}/{question['id']}")).json()
    assert [(one["handle"], one["channel"]) for one in shown["answers"]] == [("approver", "link")]


async def test_pending_approvals_are_handed_to_the_backups(platform: Platform) -> None:
    backup, commander = (
        await person(platform, "backup", "approver"),
        await person(platform, "boss", "incident_commander"),
    )
    await route(platform, rules=[{"stages": [{"approvers": ["approver"]}]}], ladder=[["backup"]])
    applied = await platform.apply(RISKY, ["pay"], tier="L3")
    run = await platform.run()
    question = await platform.question(run["id"])
    body = {"deployment": applied["deployment_id"]}
    assert (await platform.author.post(f"{PATH}/reroute", json=body)).status_code == 403
    async with platform.acting(commander) as acting:
        assert (await acting.post(f"{PATH}/reroute", json=body)).json()["rerouted"] == 1
        refused = await acting.post(f"{PATH}/reroute", json={"to": ["boss"]})
        assert await code(refused) == (403, "reroute_to_oneself")
        assert (await acting.put(f"{PATH}/routing", json={})).status_code == 403
    async with platform.acting(backup) as acting:
        assert (await acting.post(f"{PATH}/{question['id']}/approve", json={})).json()["status"] == "approved"
    await platform.until(run["id"], "completed")
    assert platform.world.count("pay") == 1


async def test_an_approval_of_another_organization_is_not_there(platform: Platform) -> None:
    await platform.apply(RISKY, ["pay"], tier="L3")
    question = await platform.question((await platform.run())["id"])
    async with platform.acting(await platform.stranger()) as stranger:
        for verb in ("approve", "deny"):
            answer = await stranger.post(f"{PATH}/{question['id']}/{verb}", json={})
            assert await code(answer) == (404, "approval_unknown")
        answer = await stranger.post(f"{PATH}/reroute", json={"approval": question["id"], "to": ["role:admin"]})
        assert await code(answer) == (404, "approval_unknown")
