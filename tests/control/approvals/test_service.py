"""Whom an approval asks, what each answer does, what the clock does, and what a yes is bound to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from agentos.control.approvals import service
from agentos.control.approvals.model import (
    Approval,
    ApprovalDecidedAlready,
    ApprovalDigestDiffers,
    ApprovalMasked,
    ApprovalNotForYou,
    ApprovalNotUsable,
    ApprovalNotYours,
    ApprovalStatus,
    Hides,
    NobodyToRerouteTo,
    RerouteToOneself,
)
from agentos.control.approvals.routing import BadRouting
from agentos.control.approvals.ticker import tick
from agentos.control.policy.model import EffectClass
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import NotAllowed, PersonUnknown
from agentos.kernel.canonical import canonical
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.unit_of_work import Doors
from tests.control.approvals.asking import NOON, Asking, asking

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
async def held(database: Database, organization: OrgId) -> Asking:
    return await asking(database, organization)


async def test_the_same_question_has_one_approval_whatever_became_of_it(held: Asking) -> None:
    asked = await held.ask()
    assert held.told == ["ApprovalRequested"]
    assert (await held.ask()).id == asked.id
    assert held.told == []
    await held.answer(asked.id, "ann", False, note="too dear")
    again = await held.ask()
    assert (again.id, again.status, again.reason, again.decided_by) == (asked.id, "denied", "too dear", "ann")


@pytest.mark.parametrize(
    ("starters", "who"), [(("author",), "author"), (("author", "bob"), "bob"), (("machine:ci", "ann"), "ann")]
)
async def test_nobody_approves_what_they_started_but_may_say_no(
    held: Asking, starters: tuple[str, ...], who: str
) -> None:
    asked = await held.ask(starters=starters)
    with pytest.raises(ApprovalNotYours):
        await held.answer(asked.id, who)
    assert (await held.answer(asked.id, who, False)).status is ApprovalStatus.DENIED


async def test_a_person_answers_once_and_a_second_yes_takes_a_second_person(held: Asking) -> None:
    asked = await held.ask(effect=EffectClass.S4, needed=2)
    assert (await held.answer(asked.id, "ann")).status is ApprovalStatus.PENDING
    for said in (True, False):
        with pytest.raises(ApprovalDecidedAlready, match="you have answered"):
            await held.answer(asked.id, "ann", said)
    assert (await held.answer(asked.id, "bob")).status is ApprovalStatus.APPROVED


@pytest.mark.parametrize("decided", [True, False])
async def test_a_late_answer_is_a_conflict_and_changes_nothing(held: Asking, decided: bool) -> None:
    asked = await held.ask()
    await held.answer(asked.id, "ann", decided)
    before = await held.get(asked.id)
    with pytest.raises(ApprovalDecidedAlready):
        await held.answer(asked.id, "bob", not decided)
    assert await held.get(asked.id) == before


async def test_an_answer_after_the_time_is_over_is_a_conflict_also_when_no_clock_has_looked(held: Asking) -> None:
    asked = await held.ask()
    with pytest.raises(ApprovalDecidedAlready, match="expired"):
        await held.answer(asked.id, "ann", at=asked.expires_at)
    assert (await held.get(asked.id)).status is ApprovalStatus.PENDING


async def test_only_named_people_answer_by_handle_or_role(held: Asking) -> None:
    rule = {"effects": ["S3"], "stages": [{"approvers": ["ann", "role:incident_commander"]}]}
    await held.route({"rules": [rule]})
    asked = await held.ask()
    for said in (True, False):
        with pytest.raises(ApprovalNotForYou, match=r"ann, role:incident_commander"):
            await held.answer(asked.id, "bob", said)
    assert (await held.answer(asked.id, "ida")).status is ApprovalStatus.APPROVED


async def test_n_of_m_takes_so_many_of_those_named(held: Asking) -> None:
    await held.route({"rules": [{"skills": ["pa*"], "stages": [{"approvers": ["ann", "bob", "carl"], "needed": 2}]}]})
    asked = await held.ask()
    assert asked.needed == 2
    assert (await held.answer(asked.id, "carl")).status is ApprovalStatus.PENDING
    assert (await held.answer(asked.id, "bob")).status is ApprovalStatus.APPROVED


async def test_a_chain_asks_one_stage_after_the_other(held: Asking) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann"]}, {"approvers": ["bob"]}]}]})
    asked = await held.ask()
    assert asked.asks() == ("ann",)
    with pytest.raises(ApprovalNotForYou):
        await held.answer(asked.id, "bob")
    assert (await held.answer(asked.id, "ann")).asks() == ("bob",)
    assert held.told == ["ApprovalPassed"]
    with pytest.raises(ApprovalNotForYou):
        await held.answer(asked.id, "ann")
    assert (await held.answer(asked.id, "bob")).status is ApprovalStatus.APPROVED
    assert held.told == ["ApprovalDecided"]


async def test_a_rule_never_asks_fewer_people_than_policy_wants(held: Asking) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann"]}]}]})
    asked = await held.ask(effect=EffectClass.S4, needed=2)
    assert asked.needed == 2
    await held.answer(asked.id, "ann")
    assert (await held.answer(asked.id, "root")).status is ApprovalStatus.APPROVED


async def test_nobody_decides_on_what_is_masked_for_them(held: Asking) -> None:
    asked = await held.ask()

    def hides(about: Approval) -> bool:
        return about.arguments == canonical({"n": 5})

    async def answer(said: bool, hides: Hides) -> Approval:
        async with held.doors.open(held.organization) as work:
            ann = await identity.seen(work, "ann")
            assert ann is not None
            who = {"person_id": ann.id, "handle": ann.handle}
            return await service.answer(work, asked.id, **who, approved=said, note="", at=NOON, hides=hides)

    for said in (True, False):
        with pytest.raises(ApprovalMasked) as told:
            await answer(said, hides)
        assert told.value.code == "approval_masked"
    assert (await answer(True, lambda _: False)).status is ApprovalStatus.APPROVED


async def test_whose_role_sees_personal_data_decides_on_it(held: Asking) -> None:
    asked = await held.ask()
    assert (await held.answer(asked.id, "ann", hides=lambda _: True)).status is ApprovalStatus.APPROVED


async def test_a_channel_answers_only_for_people_who_may(held: Asking) -> None:
    asked = await held.ask()
    with pytest.raises(NotAllowed):
        await held.answer(asked.id, "otto")
    with pytest.raises(PersonUnknown):
        await held.answer(asked.id, "nobody")
    async with held.doors.open(held.organization) as work:
        await identity.change_person(work, "ann", role=None, enabled=False, by="root", at=NOON)
    with pytest.raises(NotAllowed):
        await held.answer(asked.id, "ann")


LADDER = [
    (EffectClass.S1, "tests", None),
    (EffectClass.S2, "tests", 2 * HOUR),
    (EffectClass.S3, "tests", HOUR),
    (EffectClass.S3, "legal", 30 * MINUTE),
    (EffectClass.S4, "legal", 15 * MINUTE),
]


@pytest.mark.parametrize(("effect", "category", "after"), LADDER)
async def test_the_clock_reminds_escalates_to_the_backups_and_ends_in_a_no(
    held: Asking, effect: EffectClass, category: str, after: timedelta | None
) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann"]}]}], "ladder": [["bob"]]})
    asked = await held.ask(effect=effect, category=category)
    if after is None:
        assert (asked.next_at, asked.expires_at) == (NOON + service.LONGEST, NOON + service.LONGEST)
    else:
        await held.advance(asked.id, NOON + after / 2 - MINUTE)
        assert held.told == []
        await held.advance(asked.id, NOON + after / 2)
        assert held.told == ["ApprovalReminded"]
        with pytest.raises(ApprovalNotForYou):
            await held.answer(asked.id, "bob")
        found = await held.advance(asked.id, NOON + after)
        assert held.told == ["ApprovalSlaMissed", "ApprovalEscalated"]
        assert (found.level, found.status, found.asks()) == (1, ApprovalStatus.PENDING, ("ann", "bob"))
        await held.advance(asked.id, NOON + after * 1.5)
        assert held.told == ["ApprovalReminded"]
        assert asked.expires_at == NOON + 2 * after
    found = await held.advance(asked.id, asked.expires_at)
    assert held.told == ["ApprovalExpired"]
    assert (found.status, found.reason, found.ends_in) == (ApprovalStatus.EXPIRED, "timeout", "deny")
    await held.advance(asked.id, asked.expires_at + HOUR)
    assert held.told == []


async def test_a_backup_answers_after_the_escalation_and_the_first_may_still(held: Asking) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann", "carl"], "needed": 2}]}], "ladder": [["bob"]]})
    asked = await held.ask()
    await held.advance(asked.id, NOON + HOUR)
    await held.answer(asked.id, "bob", at=NOON + HOUR)
    assert (await held.answer(asked.id, "ann", at=NOON + HOUR)).status is ApprovalStatus.APPROVED


async def test_a_clock_that_was_away_denies_what_is_over_and_says_that_its_time_was_missed(held: Asking) -> None:
    asked = await held.ask()
    found = await held.advance(asked.id, NOON + 5 * HOUR)
    assert held.told == ["ApprovalSlaMissed", "ApprovalExpired"]
    assert found.status is ApprovalStatus.EXPIRED


@pytest.mark.parametrize(("word", "ends"), [("deny", "deny"), ("draft", "draft")])
async def test_a_class_that_does_not_escalate_ends_at_its_time(held: Asking, word: str, ends: str) -> None:
    await held.route({"on_timeout": {"S2": word}, "after": {"S2": "10m"}})
    asked = await held.ask(effect=EffectClass.S2)
    assert asked.expires_at == NOON + 10 * MINUTE
    found = await held.advance(asked.id, asked.expires_at)
    assert (found.status, found.level, found.ends_in) == (ApprovalStatus.EXPIRED, 0, ends)


async def test_an_approval_waits_no_longer_than_the_longest_time(held: Asking) -> None:
    asked = await held.ask(longest=40 * MINUTE)
    assert (asked.next_at, asked.expires_at) == (NOON + 30 * MINUTE, NOON + 40 * MINUTE)
    await held.advance(asked.id, asked.expires_at)
    assert held.told == ["ApprovalExpired"]


async def test_a_clock_that_stops_leaves_what_is_due_to_another(held: Asking, doors: Doors) -> None:
    asked = await held.ask(longest=40 * MINUTE)
    stop = asyncio.Event()
    stop.set()
    await tick(doors, Meter(), at=asked.expires_at, stop=stop)
    assert (await held.get(asked.id)).status is ApprovalStatus.PENDING
    await tick(doors, Meter(), at=asked.expires_at)
    assert (await held.get(asked.id)).status is ApprovalStatus.EXPIRED


async def test_many_clocks_do_what_is_due_once(held: Asking, doors: Doors) -> None:
    asked = [await held.ask(step=f"t0.c{number}") for number in range(5)]
    meters = [Meter() for _ in range(4)]
    await asyncio.gather(*(tick(doors, meter, at=NOON + HOUR) for meter in meters))
    assert {(await held.get(one.id)).level for one in asked} == {1}
    async with doors.open(held.organization) as work:
        from sqlalchemy import text

        rows = await work.all(text("SELECT body->>'approval_id' AS id FROM outbox WHERE name = 'ApprovalEscalated'"))
    assert sorted(row.id for row in rows) == sorted(one.id for one in asked)


async def test_what_waits_is_handed_to_the_backups_or_to_named_people(held: Asking) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann"]}]}], "ladder": [["bob"], ["role:admin"]]})
    asked, other = await held.ask(), await held.ask(step="t0.c1")
    (one,) = await held.reroute(approval_id=asked.id, to=["carl"])
    assert held.told == ["ApprovalRerouted"]
    assert one.asks() == ("ann", "carl")
    assert (await held.answer(asked.id, "carl")).status is ApprovalStatus.APPROVED
    rerouted = await held.reroute(deployment_id=asked.deployment_id)
    assert [one.id for one in rerouted] == [other.id]
    assert (await held.answer(other.id, "bob")).status is ApprovalStatus.APPROVED
    assert await held.reroute(deployment_id="dep_other") == []
    with pytest.raises(ApprovalDecidedAlready):
        await held.reroute(approval_id=other.id)


async def test_nobody_hands_approvals_to_themselves_or_to_somebody_who_may_not(held: Asking) -> None:
    await held.route({"rules": [{"stages": [{"approvers": ["ann"]}]}], "ladder": []})
    asked = await held.ask()
    with pytest.raises(RerouteToOneself):
        await held.reroute(to=["ida"])
    with pytest.raises(BadRouting, match="may not answer"):
        await held.reroute(to=["otto"])
    with pytest.raises(BadRouting, match="no person"):
        await held.reroute(to=["nobody"])
    with pytest.raises(NobodyToRerouteTo):
        await held.reroute()
    await held.reroute(to=["role:incident_commander"])
    with pytest.raises(ApprovalNotForYou):  # a role that ida has, and that she handed it to
        await held.answer(asked.id, "ida")


BAD: list[tuple[dict[str, Any], str]] = [
    ({"rules": [{"stages": [{"approvers": ["ann"], "needed": 2}]}]}, "rules[0].stages[0]"),
    ({"on_timeout": {"S3": "draft"}}, "on_timeout.S3"),
    ({"on_timeout": {"S4": "draft"}}, "on_timeout.S4"),
    ({"after": {"S2": "400d"}}, "S2"),
    ({"after": {"S2": "0s"}}, "S2"),
    ({"ladder": [[]]}, "ladder[0]"),
    ({"ladder": [["role:viewer"]]}, ""),
    ({"ladder": [["role:nobody"]]}, ""),
]


@pytest.mark.parametrize(("document", "where"), BAD)
async def test_a_routing_that_nobody_could_follow_is_refused_with_its_place(
    held: Asking, document: dict[str, Any], where: str
) -> None:
    with pytest.raises(BadRouting) as refused:
        await held.route(document)
    assert refused.value.where == where


async def test_people_that_a_routing_names_are_here_and_may_answer(held: Asking) -> None:
    with pytest.raises(BadRouting, match="no person 'nobody'"):
        await held.route({"ladder": [["nobody"]]})
    with pytest.raises(BadRouting, match="'otto' may not answer"):
        await held.route({"ladder": [["otto"]]})


async def use(held: Asking, approval_id: str, **more: Any) -> None:
    async with held.doors.open(held.organization) as work:
        found = await service.get(work, approval_id)
        await service.consume(work, found, replace(held.question, **more), at=NOON)


async def test_a_yes_is_used_once_and_only_for_what_it_was_given_for(held: Asking) -> None:
    asked = await held.ask()
    with pytest.raises(ApprovalNotUsable):
        await use(held, asked.id)
    await held.answer(asked.id, "ann")
    for other in (
        {"arguments": canonical({"n": 6})},
        {"skill": "wipe"},
        {"skill_digest": "sha256:" + "9" * 64},
        {"version": "sha256:" + "9" * 64},
    ):
        with pytest.raises(ApprovalDigestDiffers) as refused:
            await use(held, asked.id, **other)
        assert refused.value.code == "approval_digest_differs"
    await use(held, asked.id)
    with pytest.raises(ApprovalNotUsable):
        await use(held, asked.id)


Change = Callable[[Asking], Awaitable[dict[str, Any]]]


async def two_people(_held: Asking) -> dict[str, Any]:
    return {"needed": 2}


async def other_rule(_held: Asking) -> dict[str, Any]:
    return {"rule": "org_rule"}


async def higher_class(_held: Asking) -> dict[str, Any]:
    return {"effect": EffectClass.S4}


async def named_people(held: Asking) -> dict[str, Any]:
    await held.route({"rules": [{"stages": [{"approvers": ["bob"]}]}]})
    return {}


@pytest.mark.parametrize("change", [two_people, other_rule, higher_class, named_people])
@pytest.mark.parametrize("answered", [True, False])
async def test_a_stricter_requirement_asks_again_and_the_same_or_a_weaker_one_does_not(
    held: Asking, change: Change, answered: bool
) -> None:
    asked = await held.ask()
    if answered:
        await held.answer(asked.id, "ann")
    stricter = await change(held)
    again = await held.ask(**stricter)
    assert (again.round, again.status) == (2, ApprovalStatus.PENDING)
    assert again.bound != asked.bound
    first = await held.get(asked.id)
    assert (first.status, first.reason) == (("approved", "") if answered else ("expired", "superseded"))
    assert (await held.ask(**stricter)).id == again.id


async def test_a_yes_of_more_people_satisfies_a_requirement_of_fewer(held: Asking) -> None:
    asked = await held.ask(needed=2)
    await held.answer(asked.id, "ann")
    await held.answer(asked.id, "bob")
    assert (await held.ask(needed=1)).id == asked.id


async def test_what_was_withdrawn_because_policy_no_longer_asked_is_asked_again_when_it_asks(held: Asking) -> None:
    asked = await held.ask()
    async with held.doors.open(held.organization) as work:
        await service.withdraw(work, asked.run_id, step=asked.step, reason="policy", at=NOON)
    again = await held.ask()
    assert (again.round, again.status) == (2, ApprovalStatus.PENDING)


def test_levels_times_and_end_follow_from_the_plan_alone() -> None:
    from agentos.control.approvals.routing import Plan, Routing

    plan = Routing().plan(effect=EffectClass.S4, skill="x", category="c", agent="a", needed=2)
    assert Plan.read(plan.document()) == plan
    ends = plan.expires_at(NOON, service.LONGEST)
    moments: list[datetime] = []
    for level in (0, 1):
        moments += [plan.next_at(NOON, level, reminded, ends) for reminded in (False, True)]
    assert moments == [NOON + timedelta(minutes=one) for one in (7.5, 15, 22.5, 30)]
    assert Routing.read(Routing().document()) == Routing()
