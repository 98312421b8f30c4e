"""What the loop does with a script: decide, act once, wait, end; and what a crash at any point leaves behind."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.approvals import service as approvals
from agentos.control.approvals.model import ApprovalNotYours
from agentos.control.approvals.routing import Routing, Rule, Stage
from agentos.control.deployments import service as deployments
from agentos.control.policy.model import Tier
from agentos.intake.triggers import service as triggers
from agentos.intake.triggers.model import Event, Pattern
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.errors import Forbidden, Invalid, Unavailable
from agentos.kernel.ids import OrgId, RunId
from agentos.runtime.runs import service
from agentos.runtime.runs.model import InputRefused, RunEndedAlready, RunStatus, SegmentLost, StepNotUncertain
from agentos.runtime.skills import Lookup
from tests.runtime.runs.harness import DONE, Harness, calls, harness


class Crash(BaseException):
    """The worker is gone: nothing after this point happens."""


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


def crash(_given: dict[str, Any]) -> Any:
    raise Crash


async def crashed(held: Harness, run_id: RunId, number: int) -> None:
    with pytest.raises(Crash):
        await held.segment(run_id, number)


async def answered(held: Harness, run_id: RunId, *, approved: bool, handle: str = "approver") -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=10)
        await approvals.answer(
            work, asked.id, person_id=f"person_{handle}", handle=handle, approved=approved, note="", at=now()
        )


async def test_a_run_asks_acts_and_ends_with_its_output(held: Harness) -> None:
    await held.agent([calls(("look", 1), ("note", 2)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert json.loads(run.output or b"") == "done"
    assert [skill for skill, _ in held.world.done] == ["look", "note"]
    steps = await held.steps(run.id)
    assert [(step["key"], step["phase"], step["status"]) for step in steps] == [
        ("t0", "result", "ok"),
        ("t0.c0", "result", "ok"),
        ("t0.c1~1", "intent", "sent"),
        ("t0.c1", "result", "ok"),
        ("t1", "result", "ok"),
    ]
    assert steps[0]["meta"]["provider"] == "stub"


async def test_an_answer_is_committed_with_the_intent_that_it_asks_for(held: Harness) -> None:
    await held.agent([calls(("note", 1)), calls(("look", 2)), DONE])
    run = await held.finish(await held.start())
    async with held.doors.open(held.organization) as work:
        rows = await work.all(text("SELECT key, xmin::text AS commit FROM journal WHERE run_id = :id"), {"id": run.id})
    commits = {row.key: row.commit for row in rows}
    assert commits["t0"] == commits["t0.c0~1"] != commits["t0.c0"]
    assert commits["t1"] != commits["t1.c0"]  # a read may take long: the answer is safe before it begins


async def test_a_worker_lost_before_its_answer_is_committed_asks_again_and_acts_once(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    real = held.parts.database.group.row

    async def lost(statement: str, *arguments: Any) -> Any:
        if "journal_append" in statement:
            raise Crash
        return await real(statement, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(held.parts.database.group, "row", lost)
        await crashed(held, run_id, 1)
    assert await held.steps(run_id) == []
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 1


async def test_reads_that_stand_together_run_at_the_same_time(held: Harness) -> None:
    both = asyncio.Barrier(2)

    async def meet(_given: dict[str, Any]) -> dict[str, Any]:
        async with asyncio.timeout(5):
            await both.wait()
        return {}

    held.world.next("look", meet, meet)
    await held.agent([calls(("look", 1), ("look", 2)), DONE])
    assert (await held.finish(await held.start())).status is RunStatus.COMPLETED


async def test_a_crash_in_a_read_repeats_the_read_and_nothing_else(held: Harness) -> None:
    await held.agent([calls(("note", 1)), calls(("look", 2)), DONE])
    run_id = await held.start()
    held.world.next("look", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1
    assert held.world.count("look") == 2


async def test_an_idempotent_effect_cut_off_by_a_crash_is_sent_again_with_the_same_key(held: Harness) -> None:
    held.parts.settings = held.parts.settings.model_copy(update={"send_window_seconds": 0.6})
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.world.next("note", crash)
    await crashed(held, run_id, 1)
    end = await held.segment(run_id, 1)
    run = await held.run(run_id)
    assert end.state == "wait"
    assert run.waiting is not None
    assert run.waiting["reason"] == "settling"
    run = await held.finish(run_id, 2)
    assert run.status is RunStatus.COMPLETED
    assert [key for _, key in held.world.done] == [f"{run_id}.t0.c0"] * 2
    keys = [step["key"] for step in await held.steps(run_id) if step["phase"] == "intent"]
    assert keys == ["t0.c0~1", "t0.c0~2"]


async def test_an_effect_that_cannot_be_repeated_waits_for_a_person_after_a_crash(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    held.world.next("send", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.WAITING_APPROVAL
    assert run.waiting is not None
    assert (run.waiting["reason"], run.waiting["step"]) == ("uncertain_effect", "t0.c0~1")
    async with held.doors.open(held.organization) as work:
        why = await service.why(work, run_id)
        assert "settle" in why["next"]
        with pytest.raises(StepNotUncertain):
            await service.settle(work, run_id, "t9.c9~1", happened=True, value=None, by="a")
        await service.settle(work, run_id, "t0.c0~1", happened=True, value={"n": 1}, by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 1


async def test_an_effect_that_a_person_says_did_not_happen_is_sent_again(held: Harness) -> None:
    await held.agent([calls(("send", 1)), DONE])
    run_id = await held.start()
    held.world.next("send", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    async with held.doors.open(held.organization) as work:
        await service.settle(work, run_id, "t0.c0~1", happened=False, value=None, by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("send") == 2


@pytest.mark.parametrize(("said", "sends"), [(True, 1), (False, 2)])
async def test_a_receiver_that_can_be_asked_settles_an_effect_itself(held: Harness, said: bool, sends: int) -> None:
    await held.agent([calls(("ring", 1)), DONE], ["ring"])
    run_id = await held.start()
    held.world.receiver[f"{run_id}.t0.c0"] = Lookup(said, {"n": 1})
    held.world.next("ring", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("ring") == sends


async def test_two_attempts_at_one_run_leave_one_in_charge(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()
    frozen, thaw = asyncio.Event(), asyncio.Event()

    async def freeze(_given: dict[str, Any]) -> dict[str, Any]:
        frozen.set()
        await thaw.wait()
        return {}

    held.world.next("look", freeze)
    zombie = asyncio.create_task(held.segment(run_id, 1))
    await frozen.wait()
    run = await held.finish(run_id, 1)
    thaw.set()
    with pytest.raises(SegmentLost):
        await zombie
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1


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
        accepted = await service.submit_draft(work, held.parts, draft["id"], by="author", request_id="r")
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
        accepted = await service.submit_draft(work, held.parts, draft["id"], by="submitter", request_id="r")
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
        asked = service.Request("tester", "production", {"task_description": "go"}, "trigger:often", "r", fired[1])
        run_id = RunId(ids.new("run"))
        await service.admit(work, held.parts, asked, run_id)
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


async def test_lowering_the_tier_binds_the_next_effect_of_a_run_in_flight(held: Harness) -> None:
    deployment = await held.agent([calls(("note", 1)), calls(("note", 2)), DONE], tier="L2")

    async def lower(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await deployments.set_tier(work, deployment, Tier.L1, by="a", at=now())
        return {}

    held.world.next("note", lower)
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1
    assert [s["status"] for s in await held.steps(run.id) if s["key"] == "t1.c0"] == ["drafted"]


async def test_a_skill_that_the_version_does_not_name_is_denied(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["look"])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    denied = next(step for step in await held.steps(run.id) if step["status"] == "denied")
    assert denied["content"]["code"] == "skill_not_allowed"


async def test_a_denial_stops_the_run_where_the_version_says_so(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["look"], onDenied="stop")
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_denied"


async def test_a_skill_that_raises_is_told_to_the_agent_and_costs_nothing_else(held: Harness) -> None:
    def boom(_given: dict[str, Any]) -> Any:
        raise ValueError("bad luck")

    held.world.next("look", boom)
    await held.agent([calls(("look", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_raised"
    assert "bad luck" in failed["content"]["message"]


async def test_a_skill_that_returns_what_its_schema_forbids_is_an_error(held: Harness) -> None:
    held.world.next("look", lambda _given: "text")
    await held.agent([calls(("look", 1)), DONE])
    run = await held.finish(await held.start())
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_broke_schema"


async def test_a_read_that_never_ends_is_cut_off_and_tried_as_often_as_declared(held: Harness) -> None:
    async def never(_given: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    held.world.next("look", never, never, never)
    await held.agent([calls(("look", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("look") == 3
    failed = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert failed["content"]["code"] == "skill_timed_out"


async def test_an_unrepeatable_effect_that_times_out_waits_for_a_person(held: Harness) -> None:
    async def never(_given: dict[str, Any]) -> Any:
        await asyncio.Event().wait()

    held.world.next("send", never)
    await held.agent([calls(("send", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.waiting is not None
    assert run.waiting["reason"] == "uncertain_effect"
    assert held.world.count("send") == 1


@pytest.mark.parametrize(("error", "tries"), [(Unavailable("later"), 3), (Invalid("never"), 1)])
async def test_errors_are_tried_again_by_their_kind(held: Harness, error: Exception, tries: int) -> None:
    def fail(_given: dict[str, Any]) -> Any:
        raise error

    held.world.next("note", fail, fail, fail, fail)
    await held.agent([calls(("note", 1)), DONE])
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == tries
    assert len({key for _, key in held.world.done}) == 1


async def test_arguments_that_do_not_fit_are_refused_before_policy_and_people(held: Harness) -> None:
    await held.agent([{"calls": [{"skill": "pay", "arguments": {"n": "x", "y": 1}}]}, DONE], ["pay"], tier="L3")
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    refused = next(step for step in await held.steps(run.id) if step["status"] == "error")
    assert refused["content"]["code"] == "arguments_refused"


async def test_an_input_over_the_schemas_limit_is_refused_without_repeating_it(held: Harness) -> None:
    await held.agent([DONE])
    with pytest.raises(InputRefused, match="5001 characters, at most 5000"):
        await held.start({"task_description": "x" * 5001})


async def test_a_cancelled_run_commits_no_further_effect(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()

    async def cancel(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await service.order(work, run_id, "cancel", by="a")
        return {}

    held.world.next("look", cancel)
    run = await held.finish(run_id)
    assert run.status is RunStatus.CANCELLED
    assert held.world.count("note") == 0
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]  # the last answer is kept
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RunEndedAlready):
            await service.order(work, run_id, "pause", by="a")


async def test_a_paused_run_rests_before_its_next_effect_and_goes_on_when_resumed(held: Harness) -> None:
    await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()

    async def pause(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await service.order(work, run_id, "pause", by="a")
        return {}

    held.world.next("look", pause)
    run = await held.finish(run_id)
    assert run.status is RunStatus.PAUSED
    assert held.world.count("note") == 0
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]
    async with held.doors.open(held.organization) as work:
        await service.order(work, run_id, "resume", by="a")
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED
    assert held.world.count("note") == 1


async def test_effects_wait_while_the_deployment_is_paused(held: Harness) -> None:
    deployment = await held.agent([calls(("look", 1)), calls(("note", 2)), DONE])
    run_id = await held.start()

    async def pause(_given: dict[str, Any]) -> dict[str, Any]:
        async with held.doors.open(held.organization) as work:
            await deployments.pause(work, deployment, by="a", at=now())
        return {}

    held.world.next("look", pause)
    run = await held.finish(run_id)
    assert run.waiting is not None
    assert run.waiting["reason"] == "deployment_paused"
    assert [step["key"] for step in await held.steps(run_id)] == ["t0", "t0.c0", "t1"]
    assert held.world.count("note") == 0
    async with held.doors.open(held.organization) as work:
        await deployments.resume(work, deployment, by="a", at=now())
    run = await held.finish(run_id, run.token.segment + 1)
    assert run.status is RunStatus.COMPLETED


async def test_a_run_that_uses_up_its_turns_is_blocked_with_the_figure(held: Harness) -> None:
    await held.agent([calls(("look", 1))] * 5, budgets={"turns": 2})
    run = await held.finish(await held.start())
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_turns_used_up"


async def test_a_run_past_its_deadline_is_blocked(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run_id = await held.start()
    async with held.doors.open(held.organization) as work:
        await work.run(text("UPDATE runs SET deadline = now() - interval '1 second'"))
    run = await held.finish(run_id)
    assert run.status is RunStatus.BLOCKED
    assert run.problem is not None
    assert run.problem["code"] == "run_timed_out"


async def test_an_answer_that_does_not_fit_the_output_schema_is_asked_for_again(held: Harness) -> None:
    schema = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}
    await held.agent([{"text": "no json"}, {"text": '{"n": "x"}'}, {"text": '{"n": 3}'}], output={"schema": schema})
    run = await held.finish(await held.start())
    assert run.status is RunStatus.COMPLETED
    assert json.loads(run.output or b"") == {"n": 3}


async def test_a_model_that_is_not_configured_lets_the_run_wait_with_the_reason(held: Harness) -> None:
    await held.agent([DONE], model={"provider": "claude", "name": "claude-x"})
    run_id = await held.start()
    end = await held.segment(run_id, 1)
    run = await held.run(run_id)
    assert end.state == "wait"
    assert run.waiting is not None
    assert run.waiting["reason"] == "model"
    assert "ANTHROPIC_API_KEY" in run.waiting["detail"]


async def test_a_payload_too_large_for_the_journals_row_comes_back_whole(held: Harness) -> None:
    held.world.next("look", lambda _given: {"text": "x" * 600_000})
    await held.agent([calls(("look", 1)), calls(("look", 2)), DONE])
    run_id = await held.start()
    held.world.next("look", crash)
    await crashed(held, run_id, 1)
    run = await held.finish(run_id)
    assert run.status is RunStatus.COMPLETED
    big = next(step for step in await held.steps(run_id) if step["key"] == "t0.c0")
    assert len(big["content"]["text"]) == 600_000


async def test_settling_is_bounded_when_the_databases_clock_was_set_back(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.world.next("note", crash)
    await crashed(held, run_id, 1)
    pool = await held.parts.database.driver()
    assert pool is not None
    # As if the intent had been recorded an hour in the future: the clock was set back since.
    import os

    import asyncpg
    from sqlalchemy import make_url

    name = held.parts.database._url.database
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(drivername="postgresql", database=name)
    admin = await asyncpg.connect(url.render_as_string(hide_password=False))
    await admin.execute(
        "UPDATE agentos.journal SET send_before = send_before + interval '1 hour', at = at + interval '1 hour' "
        "WHERE run_id = $1",
        run_id,
    )
    await admin.close()
    end = await held.segment(run_id, 1)
    assert end.seconds is None or end.seconds < timedelta(seconds=5).total_seconds()
    assert (await held.finish(run_id, 2)).status is RunStatus.COMPLETED


async def test_a_run_whose_skill_is_withheld_waits_and_goes_on_where_it_is_served(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE])
    run_id = await held.start()
    held.parts.registry.withhold({("note", "1"): "it was changed without a new version"})
    await held.segment(run_id)
    waits = await held.run(run_id)
    assert waits.waiting is not None
    assert "is not served here: it was changed without a new version" in waits.waiting["detail"]
    assert held.world.done == []
    held.parts.registry.withhold({})
    assert (await held.finish(run_id, 2)).status is RunStatus.COMPLETED
    assert [skill for skill, _ in held.world.done] == ["note"]
