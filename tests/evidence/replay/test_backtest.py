"""Recorded actions before a proposed policy: what it would have stopped and cost, and that looking changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.approvals import service as approvals
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, OrganizationPolicy, PolicyRefused, Tier
from agentos.evidence.replay import service, store
from agentos.evidence.replay.model import BadWindow, Denylist, Limits, Proposal, Report
from agentos.evidence.replay.service import Cost
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.epochs import ORGANIZATION
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId, RunId
from tests.runtime.runs.harness import DONE, Harness, calls, harness

HOUR = timedelta(hours=1)


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def done(held: Harness, *wanted: tuple[str, int], tier: str = "L3", name: str = "tester") -> RunId:
    """A run that made these calls, one in each turn."""
    skills = sorted({skill for skill, _ in wanted})
    await held.agent([*(calls(one) for one in wanted), DONE], skills, tier=tier, name=name)
    return (await held.finish(await held.start(name=name))).id


async def backtest(held: Harness, proposal: Proposal, **more: Any) -> tuple[Report, Cost]:
    async with held.doors.open(held.organization) as work:
        report, _, cost = await service.backtest(work, proposal, now() - HOUR, now() + HOUR, **more)
    return report, cost


async def answer(held: Harness, run_id: RunId, *, after: timedelta) -> None:
    async with held.doors.open(held.organization) as work:
        (asked,) = await approvals.listed(work, status="pending", run_id=run_id, after="", most=10)
        at = asked.asked_at + after
        await approvals.answer(work, asked.id, person_id="p", handle="approver", approved=True, note="", at=at)


async def everything(held: Harness) -> list[Any]:
    tables = ("runs", "journal", "approvals", "drafts", "policies", "epochs", "outbox", "stops", "deployments")
    async with held.doors.open(held.organization) as work:
        return [
            [tuple(row) for row in await work.all(text(f"SELECT * FROM {table} ORDER BY 1, 2, 3"))] for table in tables
        ]


async def test_a_proposal_that_changes_nothing_changes_nothing(held: Harness) -> None:
    await done(held, ("look", 1), ("note", 2), ("pay", 3))
    before = await everything(held)
    report, cost = await backtest(held, Proposal())
    assert (report.actions, report.unknown, len(report.runs)) == (3, 0, 1)
    assert dict(report.recorded) == dict(report.proposed) == {"allow": 2, "ask": 1}
    assert (report.rules, report.stopped, report.freed, cost.minutes) == ({}, [], 0, 0.0)
    assert await everything(held) == before


async def test_a_lower_tier_would_have_drafted_what_happened_and_names_the_effects(held: Harness) -> None:
    run_id = await done(held, ("look", 1), ("note", 2), ("send", 3))
    report, _ = await backtest(held, Proposal(tier=Tier.L1))
    assert dict(report.proposed) == {"allow": 1, "draft": 2}
    assert [(one["run_id"], one["step"], one["skill"], one["verdict"]) for one in report.stopped] == [
        (run_id, "t1.c0", "note", "draft"),
        (run_id, "t2.c0", "send", "draft"),
    ]
    assert dict(report.rules) == {("draft", "tier_matrix"): 2}


async def test_a_higher_tier_than_the_version_allows_frees_nothing(held: Harness) -> None:
    await done(held, ("note", 1), tier="L1")
    report, _ = await backtest(held, Proposal(tier=Tier.L4))
    assert (dict(report.recorded), report.freed) == ({"draft": 1}, 0)


@pytest.mark.parametrize(
    ("proposal", "code"),
    [
        (Proposal(organization=OrganizationPolicy(deny=("no*",))), "organization_denies"),
        (Proposal(deployment=DeploymentPolicy(allow=("look",))), "skill_not_allowed"),
        (Proposal(denylist=Denylist(skills=("note",))), "denylisted"),
        (Proposal(denylist=Denylist(agents=("tester",))), "denylisted"),
        (Proposal(budgets=Limits(steps=1)), "budget"),
        (Proposal(budgets=Limits(turns=1)), "budget"),
        (Proposal(budgets=Limits(tokens=0)), "budget"),
        (
            Proposal(
                organization=OrganizationPolicy(cedar="forbid(principal, action, resource) when {context.effect>0};")
            ),
            "organization_rules",
        ),
    ],
)
async def test_each_kind_of_proposal_would_have_blocked_the_effect(
    held: Harness, proposal: Proposal, code: str
) -> None:
    await done(held, ("look", 1), ("note", 2))
    report, _ = await backtest(held, proposal)
    assert [(one["skill"], one["code"]) for one in report.stopped] == [("note", code)]
    assert ("deny", code) in report.rules


async def test_a_denied_domain_is_found_in_what_was_recorded(held: Harness) -> None:
    arguments = {"url": "https://x.evil.example/", "payload": {}, "secret": "secret://x"}
    script = [{"calls": [{"skill": "webhook_send", "arguments": arguments}]}, DONE]
    held.parts.registry.load(["agentos.adapters.skills.webhook_send"])
    await held.agent(script, ["webhook_send"], tier="L1", name="teller")
    await held.finish(await held.start(name="teller"))
    report, _ = await backtest(held, Proposal(denylist=Denylist(domains=("Evil.Example",))))
    assert dict(report.rules) == {("deny", "denylisted"): 1}
    assert report.stopped == []  # it was a draft: nothing had happened


async def test_questions_cost_what_approvals_took_so_far_and_unknown_before_any(held: Harness) -> None:
    await done(held, ("note", 1), ("note", 2), ("look", 3))
    proposal = Proposal(organization=OrganizationPolicy(ask=("note",)))
    report, cost = await backtest(held, proposal)
    assert (report.approvers, cost.measured, cost.median_minutes, cost.minutes) == (2, 0, None, None)
    for minutes in (2, 4, 60):
        asking = await done(held, ("pay", minutes), name=f"payer{minutes}")
        await answer(held, asking, after=timedelta(minutes=minutes))
    report, cost = await backtest(held, proposal)
    assert (report.approvers, cost.measured) == (2, 3)
    assert (cost.median_minutes, cost.minutes) == (4.0, 8.0)


async def test_only_what_began_in_the_window_and_in_the_deployment_counts(held: Harness) -> None:
    await done(held, ("note", 1))
    await done(held, ("note", 1), name="other")
    async with held.doors.open(held.organization) as work:
        report, _, _ = await service.backtest(work, Proposal(), now() + HOUR, now() + 2 * HOUR)
        rows = await work.all(text("SELECT id FROM deployments WHERE agent_id = 'other'"))
    assert report.actions == 0
    report, _ = await backtest(held, Proposal(), deployment_id=rows[0].id)
    assert report.actions == 1


async def test_what_a_run_was_refused_is_recorded_and_a_proposal_may_free_it(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        await policies.save(work, ORGANIZATION, OrganizationPolicy(deny=("note",)), by="ann", at=now())
    await held.agent([calls(("note", 1), ("ghost", 2)), DONE], ["note"], tier="L4")
    await held.finish(await held.start())
    report, _ = await backtest(held, Proposal(organization=OrganizationPolicy()))
    assert dict(report.recorded) == {"deny": 2}
    assert (dict(report.proposed), report.freed) == ({"allow": 1, "deny": 1}, 1)


async def test_a_broken_proposal_and_an_empty_window_are_refused(held: Harness) -> None:
    with pytest.raises(PolicyRefused):
        await backtest(held, Proposal(organization=OrganizationPolicy(cedar="permit(")))
    async with held.doors.open(held.organization) as work:
        with pytest.raises(BadWindow):
            await service.backtest(work, Proposal(), now(), now() - HOUR)


async def test_a_backtest_cannot_write_whatever_it_tries(held: Harness) -> None:
    with pytest.raises(Unavailable) as refused:
        async with held.doors.open(held.organization) as work:
            await store.read_only(work)
            await work.run(text("UPDATE runs SET status = 'failed'"))
    assert "read-only transaction" in str(refused.value.__cause__)


async def test_more_actions_than_one_look_takes_in_are_said_to_be_left_out(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "MOST_ACTIONS", 1)
    await done(held, ("note", 1), ("note", 2))
    report, _ = await backtest(held, Proposal())
    assert (report.actions, report.complete) == (1, False)


async def test_pages_of_journals_never_cut_a_run(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PAGE", 3)
    for name in ("a", "b", "c"):
        await done(held, ("note", 1), ("look", 2), name=name)
    report, _ = await backtest(held, Proposal())
    assert (report.actions, len(report.runs), report.unknown) == (6, 3, 0)


AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def test_a_window_is_durations_before_now_or_moments() -> None:
    assert service.window("24h", "", at=AT) == (AT - timedelta(hours=24), AT)
    assert service.window("2026-03-01T09:00:00+01:00", "1h", at=AT) == (datetime(2026, 3, 1, 8, tzinfo=UTC), AT - HOUR)


@pytest.mark.parametrize("written", ["", "yesterday", "2026-03-01", "2026-03-01T09:00:00", "999999999w"])
def test_what_is_no_moment_is_refused(written: str) -> None:
    with pytest.raises(BadWindow):
        service.window(written, "", at=AT)
