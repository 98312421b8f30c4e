"""What a run asks people: approvals that bind, drafts that are submitted once."""

from __future__ import annotations

import asyncio

import pytest

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalNotYours
from agentos.control.approvals.routing import Routing, Rule, Stage
from agentos.control.deployments import service as deployments
from agentos.control.policy.model import Tier
from agentos.intake.triggers import service as triggers
from agentos.intake.triggers.model import Event, Pattern
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.errors import Forbidden
from agentos.kernel.ids import RunId
from agentos.runtime.runs import admission, service
from agentos.runtime.runs.model import RunStatus
from tests.runtime.runs.harness import DONE, Harness, answered, calls, crash, crashed


async def test_a_risky_effect_waits_for_a_yes_and_then_happens_once(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    run = await held.finish(run_id)
    assert run.status is RunStatus.WAITING_APPROVAL
    assert held.world.done == []
    await answered(held, run_id, approved=True)
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("pay") == 1
    intent = next(step for step in await held.steps(run_id) if step["phase"] == "intent")
    assert intent["meta"]["approval"].startswith("apr_")


async def test_whoever_asked_for_the_run_may_not_approve_it(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    with pytest.raises(Forbidden):
        await answered(held, run_id, approved=True, handle="author")


async def test_a_no_is_told_to_the_agent_and_nothing_happens(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=False)
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.done == []
    assert [step["status"] for step in await held.steps(run_id)][-2:] == ["denied", "ok"]


async def test_an_approval_that_nobody_gives_in_time_counts_as_a_no(held: Harness) -> None:
    held.parts.settings = held.parts.settings.model_copy(update={"approval_seconds": 0.05})
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.segment(run_id, 1)
    await asyncio.sleep(0.1)
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.done == []
    denied = next(step for step in await held.steps(run_id) if step["status"] == "denied")
    assert denied["content"]["code"] == "approval_expired"


async def test_an_irreversible_effect_needs_two_different_people(held: Harness) -> None:
    await held.agent([calls(("wipe", 5)), DONE], ["wipe"], tier="L4")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=True, handle="one")
    assert (await held.finish(run_id, 2)).status is RunStatus.WAITING_APPROVAL
    await answered(held, run_id, approved=True, handle="two")
    assert (await held.finish(run_id, 3)).status is RunStatus.COMPLETED
    assert held.world.count("wipe") == 1


async def test_a_crash_between_yes_and_call_does_not_ask_or_act_twice(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=True)
    held.world.next("pay", crash)
    await crashed(held, run_id, 2)
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert {key for _, key in held.world.done} == {f"{run_id}.t0.c0"}
    async with held.doors.open(held.organization) as work:
        assert len(await approvals.listed(work, status="", run_id=run_id, after="", most=10)) == 1


async def test_a_tier_that_only_recommends_makes_a_draft_which_a_person_can_submit_once(held: Harness) -> None:
    deployment = await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    async with held.doors.open(held.organization) as work:
        await deployments.set_tier(work, deployment, Tier.L1, by="a", at=now())
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.done == []
    async with held.doors.open(held.organization) as work:
        (draft,) = await service.drafts(work, status="open", after="", most=10)
        accepted = await admission.submit_draft(work, held.parts, draft["id"], by="author", request_id="r")
    submitted = RunId(accepted.run_id)
    assert (await held.finish(submitted)).status is RunStatus.WAITING_APPROVAL
    await answered(held, submitted, approved=True)
    assert (await held.finish(submitted, 2)).status is RunStatus.COMPLETED
    assert held.world.done == [("pay", f"{submitted}.d")]


async def test_nobody_approves_a_draft_that_they_led_to_or_submitted(held: Harness) -> None:
    deployment = await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    async with held.doors.open(held.organization) as work:
        await deployments.set_tier(work, deployment, Tier.L1, by="a", at=now())
    await held.finish(await held.start())  # by "author"
    async with held.doors.open(held.organization) as work:
        (draft,) = await service.drafts(work, status="open", after="", most=10)
        accepted = await admission.submit_draft(work, held.parts, draft["id"], by="submitter", request_id="r")
    submitted = RunId(accepted.run_id)
    await held.finish(submitted)
    for started in ("author", "submitter"):
        with pytest.raises(ApprovalNotYours):
            await answered(held, submitted, approved=True, handle=started)
    await answered(held, submitted, approved=True)


async def test_whoever_made_a_trigger_started_its_runs(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    wanted = triggers.Wanted("often", "tester", "production", Pattern())
    async with held.doors.open(held.organization) as work:
        await triggers.add(work, wanted, by="maker", at=now())
        event = Event(id="1", source="s", type="t", subject="", time=None, data=None)
        fired = await triggers.fire_event(work, event, at=now(), request_id="r")
        assert fired is not None
        asked = admission.Request("tester", "production", {"task_description": "go"}, "trigger:often", "r", fired[1])
        run_id = RunId(ids.new("run"))
        await admission.admit(work, held.parts, asked, run_id)
        assert await service.starters(work, await service.get(work, run_id)) == ("trigger:often", "maker")
    await held.finish(run_id)
    with pytest.raises(ApprovalNotYours):
        await answered(held, run_id, approved=True, handle="maker")


async def test_a_yes_does_not_outlive_a_policy_that_became_stricter_or_says_draft(held: Harness) -> None:
    deployment = await held.agent([calls(("move", 5)), DONE], ["move"], tier="L2")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=True)
    async with held.doors.open(held.organization) as work:
        await deployments.set_tier(work, deployment, Tier.L1, by="a", at=now())
    assert (await held.finish(run_id, 2)).status is RunStatus.COMPLETED
    assert held.world.done == []
    async with held.doors.open(held.organization) as work:
        (draft,) = await service.drafts(work, status="open", after="", most=10)
        assert draft["run_id"] == run_id


async def test_a_routing_that_became_stricter_after_a_yes_asks_again(held: Harness) -> None:
    await held.agent([calls(("pay", 5)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=True)
    async with held.doors.open(held.organization) as work:
        stricter = Routing(rules=(Rule((Stage((), 2),)),), ladder=())
        await approvals.set_routing(work, stricter, by="root", at=now())
    assert (await held.finish(run_id, 2)).status is RunStatus.WAITING_APPROVAL
    assert held.world.done == []
    await answered(held, run_id, approved=True)
    await answered(held, run_id, approved=True, handle="other")
    assert (await held.finish(run_id, 3)).status is RunStatus.COMPLETED
    assert held.world.count("pay") == 1
