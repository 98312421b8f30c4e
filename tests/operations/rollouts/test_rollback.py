"""A rollback serves the very next run, and says by the data whether it helped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.control.deployments.model import NeverServed, State
from agentos.control.policy.model import Tier
from agentos.evidence.quality import scores
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Figure, FreezeScope
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from agentos.operations.rollouts import service, store
from agentos.operations.rollouts.impact import Change, impact
from agentos.operations.rollouts.model import (
    Frozen,
    GateFailed,
    GatesOverridden,
    Outcome,
    ReasonMissing,
    Rollback,
    RollbackUnknown,
    RollbackValidated,
)
from agentos.operations.shadows import service as shadows
from agentos.operations.shadows.showing import KEPT, Shadows
from agentos.runtime.runs.model import RunEnded
from tests.operations.rollouts.desk import Desk, of
from tests.runtime.runs.harness import calls, harness


@pytest.fixture
async def desk(database: Database, organization: OrgId) -> Desk:
    made = Desk(harness(database, organization))
    await made.apply("rollouts_good")
    return made


async def rolled_back(desk: Desk) -> tuple[str, int]:
    """A bad version served, failed and was rolled back: the version that serves again, and its revision."""
    first = (await desk.now_serving()).version
    await desk.order(await desk.apply("rollouts_bad"))
    await desk.ran(["hard"] * 4)
    found = (await desk.rollback()).deployment
    assert found.version == first
    return str(first), found.revision


async def rollback(desk: Desk, number: int) -> Rollback:
    async with desk.held.doors.open(desk.held.organization) as work:
        return await service.get_rollback(work, desk.deployment, number)


def by_name(found: Rollback) -> dict[str, Any]:
    return {one["check"]: one for one in found.checks}


async def test_the_next_run_uses_the_restored_version_and_the_validation_reports_recovery(desk: Desk) -> None:
    first, number = await rolled_back(desk)
    await desk.validate()
    found = await rollback(desk, number)
    assert found.outcome is Outcome.WAITING
    assert {name: one["outcome"] for name, one in by_name(found).items()} == dict.fromkeys(by_name(found), "waiting")
    (run,) = await desk.ran(["hard"])
    assert (run.version, run.revision) == (first, number)
    await desk.validate()
    checks = by_name(await rollback(desk, number))
    assert checks["dispatch"]["outcome"] == "passed"
    assert checks["success"]["outcome"] == "waiting"
    await desk.ran(["hard"] * 2)
    await desk.validate()
    checks = by_name(await rollback(desk, number))
    assert checks["success"]["outcome"] == "passed"
    assert checks["success"]["figures"]["success_rate"] == 1.0
    assert checks["success"]["figures"]["before"] == 0.0
    found = checks["success"]["figures"]
    assert (found["samples"], found["samples_before"]) == (3, 4)
    assert 0 < found["low"] < found["high"] == 1
    assert 0 == found["low_before"] < found["high_before"] < 1
    assert checks["dispatch"]["figures"]["started_share"]["samples"] == 3
    assert checks["drift"]["outcome"] == "waiting"
    await desk.validate(now() + timedelta(minutes=16))
    found = await rollback(desk, number)
    assert by_name(found)["drift"]["outcome"] == "unknown"  # three runs tell nothing of drift, and nobody says they do
    assert found.outcome is Outcome.UNKNOWN


async def test_runs_that_were_admitted_before_are_no_recovery(desk: Desk) -> None:
    parked = [await desk.start("hard") for _ in range(4)]  # of the version that is restored, on the revision before
    _, number = await rolled_back(desk)
    for run_id in parked:
        run = await desk.held.finish(run_id)
        async with desk.held.doors.open(desk.held.organization) as work:
            await scores.score(work, run.id, at=now())
    await desk.validate()
    found = by_name(await rollback(desk, number))["success"]
    assert (found["outcome"], found["figures"]["samples"]) == ("waiting", 0)
    await desk.ran(["hard"] * 3)
    await desk.validate()
    found = by_name(await rollback(desk, number))["success"]
    assert (found["outcome"], found["figures"]["samples"]) == ("passed", 3)


async def test_drift_falls_once_runs_are_again_as_they_were(desk: Desk) -> None:
    await desk.ran(["hard"] * 31)
    async with desk.held.doors.open(desk.held.organization) as work:
        await work.run(text("UPDATE quality_runs SET ended_at = ended_at - interval '2 hours'"))
    await desk.order(await desk.apply("rollouts_bad"))
    await desk.ran(["hard"] * 31)
    number = (await desk.rollback()).deployment.revision
    await desk.ran(["hard"] * 31)
    (found,) = await desk.validate()
    assert found.number == number
    checks = by_name(await rollback(desk, number))
    assert checks["drift"]["figures"]["before"] > checks["drift"]["figures"]["drift"]
    assert {one["outcome"] for one in checks.values()} == {"passed"}
    assert of(desk.facts, RollbackValidated)[0].outcome == "passed"


async def test_after_the_time_what_nobody_asked_for_is_unknown(desk: Desk) -> None:
    _, number = await rolled_back(desk)
    await desk.validate(now() + timedelta(minutes=16))
    found = await rollback(desk, number)
    assert found.outcome is Outcome.UNKNOWN
    assert {by_name(found)[name]["outcome"] for name in ("dispatch", "success")} == {"unknown"}
    (fact,) = of(desk.facts, RollbackValidated)
    assert (fact.number, fact.outcome) == (number, "unknown")


async def test_a_rollback_that_does_not_help_fails(desk: Desk) -> None:
    await desk.order(await desk.apply("rollouts_bad"))
    await desk.order(await desk.apply("rollouts_good", instructions="Third."))
    number = (await desk.rollback()).deployment.revision
    await desk.ran(["hard"] * 4)
    assert await desk.validate(now() + timedelta(minutes=1)) == ()
    await desk.validate(now() + timedelta(minutes=16))
    found = await rollback(desk, number)
    assert found.outcome is Outcome.FAILED
    assert by_name(found)["success"]["outcome"] == "failed"
    assert by_name(found)["dispatch"]["outcome"] == "passed"
    assert of(desk.facts, RollbackValidated)[0].checks["success"] == "failed"


async def test_a_run_that_is_admitted_and_never_starts_fails_the_dispatch(desk: Desk) -> None:
    _, number = await rolled_back(desk)
    await desk.start()
    await desk.validate(now() + timedelta(minutes=16))
    checks = by_name(await rollback(desk, number))
    assert (checks["dispatch"]["outcome"], checks["dispatch"]["figures"]["admitted"]) == ("failed", 1)


async def test_a_run_that_begins_after_the_time_is_no_dispatch_however_late_a_worker_looks(desk: Desk) -> None:
    await desk.order(await desk.apply("rollouts_bad"))
    number = (await desk.rollback(at=now() - timedelta(minutes=20))).deployment.revision
    await desk.ran(["easy"])
    async with desk.held.doors.open(desk.held.organization) as work:  # admitted in time, when no worker was there
        await work.run(text("UPDATE runs SET accepted_at = accepted_at - interval '10 minutes'"))
    await desk.ran(["easy"])
    await desk.validate()
    found = by_name(await rollback(desk, number))["dispatch"]
    assert (found["outcome"], found["figures"]["admitted"], found["figures"]["started"]) == ("failed", 1, 0)


async def test_a_rollback_that_comes_while_a_worker_looks_is_checked_like_any_other(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.order(await desk.apply("rollouts_bad"))
    waiting = store.waiting

    async def just_then(*given: Any) -> list[Rollback]:
        monkeypatch.setattr(store, "waiting", waiting)
        await desk.rollback()
        return await waiting(*given)

    monkeypatch.setattr(store, "waiting", just_then)
    await desk.validate()
    found = await rollback(desk, (await desk.now_serving()).revision)
    assert found.outcome is Outcome.WAITING
    assert {one["outcome"] for one in found.checks} == {"waiting"}


async def test_what_is_changed_again_cannot_be_told_any_more(desk: Desk) -> None:
    _, number = await rolled_back(desk)
    await desk.order(await desk.apply("rollouts_good", instructions="Third."))
    await desk.validate()
    assert (await rollback(desk, number)).outcome is Outcome.UNKNOWN


async def test_a_rollback_to_a_version_that_never_served_is_refused(desk: Desk) -> None:
    await desk.order(await desk.apply("rollouts_bad"))
    third = await desk.apply("rollouts_good", instructions="Third.")
    with pytest.raises(NeverServed):
        await desk.rollback(third)
    with pytest.raises(RollbackUnknown):
        await rollback(desk, 2)


async def test_a_version_that_was_rolled_back_is_no_way_back_past_gates_and_freezes(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    second = await desk.apply("rollouts_bad")
    await desk.order(second)
    await desk.ran(["hard"] * 3)
    await desk.rollback()
    await desk.gate()
    with pytest.raises(GateFailed, match="failed with 0"):
        await desk.rollback(second)
    with pytest.raises(ReasonMissing):
        await desk.rollback(second, force=True)
    done = await desk.rollback(second, force=True, reason="the first is worse")
    assert done.deployment.version == second
    assert of(desk.facts, GatesOverridden)[0].version == second
    assert "past gates: success_rate" in (await desk.history())[0].reason
    async with desk.held.doors.open(desk.held.organization) as work:
        await quality.freeze(work, scope=FreezeScope.ORGANIZATION, target="", reason="audit", by="ann", at=now())
    with pytest.raises(Frozen):  # it was rolled back itself, by the way back to the second
        await desk.rollback(first, force=True, reason="now")


async def test_the_impact_names_who_stays_where_and_who_cannot_go_on(desk: Desk) -> None:
    parked = await desk.held.agent([calls(("pay", 1))], ["pay"], tier="L3", name="payer")
    for _ in range(3):
        await desk.held.finish(await desk.held.start(name="payer"))
    async with desk.held.doors.open(desk.held.organization) as work:
        before = await impact(work, desk.skills, parked, Change.PROMOTE)
    assert before.words == ["3 parked runs stay on version 1."]
    desk.held.parts.registry._skills.clear()
    async with desk.held.doors.open(desk.held.organization) as work:
        after = await impact(work, desk.skills, parked, Change.ROLLBACK)
    assert after.words[0] == "3 parked runs stay on version 1."
    assert after.words[1].startswith("3 of those on version 1 cannot resume, because ")
    assert "pay" in after.words[1]
    assert after.document()["cannot_resume"] == 3


async def test_before_a_retirement_or_another_tier_it_is_told_what_that_means_for_open_runs(desk: Desk) -> None:
    parked = await desk.held.agent([calls(("pay", 1))], ["pay"], tier="L3", name="payer")
    for _ in range(2):
        await desk.held.finish(await desk.held.start(name="payer"))
    await desk.held.start(name="payer")
    how: dict[str, Any] = {"by": "ann", "at": now()}
    async with desk.held.doors.open(desk.held.organization) as work:
        lowered = await service.set_tier(work, parked, Tier.L1, desk.skills, **how)
    assert lowered.deployment.tier is Tier.L1
    assert lowered.impact.words == [
        "2 parked runs stay on version 1.",
        "1 moving run stays on version 1.",
        "From their next effect on they act under L1, none above its version's highest.",
    ]
    async with desk.held.doors.open(desk.held.organization) as work:
        retired = await service.turn(work, parked, Change.RETIRE, desk.skills, **how)
    assert retired.deployment.state is State.RETIRED
    assert retired.impact.words == [
        "2 parked runs stay on version 1.",
        "1 moving run stays on version 1 and stops before its next effect, for good.",
        "2 of those on version 1 cannot resume, because a retired deployment lets no effect out.",
    ]


async def test_a_shadow_is_shown_what_runs_were_given_and_changes_nothing(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    second = await desk.apply("rollouts_bad")
    async with desk.held.doors.open(desk.held.organization) as work:
        await shadows.start(work, desk.deployment, second, 100, live=False, by="ann", at=now())
    before = list(desk.held.world.done)
    showing = Shadows(desk.held.parts)
    for run in await desk.ran(["easy", "hard", "easy"]):
        assert run.version == first
        fact = RunEnded(run.id, desk.deployment, "tester", run.version, run.status.value, "")
        await showing.show(desk.held.organization, fact)
        await showing.show(desk.held.organization, fact)  # once is enough
    async with desk.held.doors.open(desk.held.organization) as work:
        shadow, shown = await shadows.shadow(work, desk.deployment)
        rows = await shadows.shadow_runs(work, desk.deployment, before="", most=10)
    assert (shadow.version, shown.runs, shown.known, shown.changed) == (second, 3, 3, 1)
    changed, recorded = shown.figures["changed"], shown.figures["recorded_completed"]
    assert (changed.value, changed.samples, recorded.value) == (1 / 3, 3, 1.0)
    assert changed.low is not None
    assert changed.high is not None
    assert 0 < changed.low < 1 / 3 < changed.high < 1
    assert shown.figures["dollars_more"] == Figure(0.0, None, None, 3)  # three that agree show no variance
    assert [one["found"] for one in rows] == ["completed", "failed", "completed"]
    assert desk.held.world.done == before
    async with desk.held.doors.open(desk.held.organization) as work:
        await shadows.end(work, desk.deployment, by="ann", at=now())
    (run,) = await desk.ran(["easy"])
    fact = RunEnded(run.id, desk.deployment, "tester", run.version, run.status.value, "")
    await showing.show(desk.held.organization, fact)
    async with desk.held.doors.open(desk.held.organization) as work:
        assert (await shadows.shadow(work, desk.deployment))[1].runs == 3
    database, little = desk.held.parts.database, timedelta(minutes=1)
    for at, left in ((now() + KEPT.kept - little, 3), (now() + KEPT.kept + little, 0)):
        await forget(database, KEPT, at=at)
        async with desk.held.doors.open(desk.held.organization) as work:
            assert (await shadows.shadow(work, desk.deployment))[1].runs == left
