"""A canary takes its share and no more, the same keys each time, and is gone as soon as it is shown to be worse."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from agentos.control.deployments.model import (
    BadShare,
    Canary,
    CanaryEnded,
    CanaryResized,
    CanaryRuns,
    NeverServed,
    NoCanary,
    Status,
)
from agentos.evidence.quality import scores
from agentos.evidence.quality.model import Comparator, Gate, Scope, Severity
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import GateId, OrgId
from agentos.operations.rollouts import breaches, service, store, watch
from agentos.operations.rollouts.impact import Change
from agentos.operations.rollouts.model import CanaryBreached, CanaryRecord, GateFailed
from tests.evidence.quality.runs import AT, scored
from tests.operations.rollouts.desk import SETTINGS, Desk, of
from tests.runtime.runs.harness import DONE, answered, calls, harness


@pytest.fixture
async def desk(database: Database, organization: OrgId) -> Desk:
    made = Desk(harness(database, organization))
    await made.apply("rollouts_good")
    return made


async def canaries(desk: Desk) -> list[CanaryRecord]:
    async with desk.held.doors.open(desk.held.organization) as work:
        return await service.canaries(work, desk.deployment, most=10)


@given(st.text(max_size=50), st.integers(1, 99), st.integers(1, 99))
def test_a_key_stays_on_its_side_and_a_larger_share_takes_all_of_a_smaller_one(key: str, one: int, two: int) -> None:
    small, large = (Canary(3, "sha256:x", share) for share in sorted((one, two)))
    assert small.takes("dep_a", key) is small.takes("dep_a", key)
    assert large.takes("dep_a", key) or not small.takes("dep_a", key)


@pytest.mark.parametrize("percent", [1, 10, 50, 99])
def test_the_share_that_is_taken_is_near_the_one_that_is_asked_for(percent: int) -> None:
    canary = Canary(3, "sha256:x", percent)
    taken = sum(canary.takes("dep_a", f"customer-{number}") for number in range(20_000))
    assert abs(taken / 200 - percent) < 1.5


async def test_runs_of_a_key_are_pinned_to_the_canary_and_others_to_what_serves(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    second = await desk.apply("rollouts_bad")
    done = await desk.order(second, percent=30)
    assert done.deployment.canary is not None
    assert done.deployment.version == first
    (run,) = await desk.ran(["easy"], key=await desk.key_of(canary=True))
    assert (run.version, run.revision) == (second, done.deployment.canary.revision)
    for _ in range(3):
        (other,) = await desk.ran(["easy"], key=await desk.key_of(canary=False))
        assert (other.version, other.revision) == (first, 1)


@pytest.mark.parametrize("percent", [150, 100, 0, -5])
async def test_a_share_that_is_none_is_refused_in_words(desk: Desk, percent: int) -> None:
    second = await desk.apply("rollouts_bad")
    with pytest.raises(BadShare, match=f"cannot serve {percent} %"):
        await desk.order(second, percent=percent)
    assert (await desk.now_serving()).canary is None


async def test_a_canary_is_raised_and_then_promoted_under_its_own_revision(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    begun = (await desk.order(second, percent=10)).deployment.canary
    raised = (await desk.order(second, percent=50)).deployment.canary
    assert begun is not None
    assert raised == Canary(begun.revision, second, 50)
    (fact,) = of(desk.facts, CanaryResized)
    assert (fact.was, fact.percent) == (10, 50)
    done = await desk.order(second)
    assert (done.deployment.version, done.deployment.canary) == (second, None)
    assert done.deployment.revision == begun.revision
    (record,) = await canaries(desk)
    assert record.outcome == "active"


async def test_one_canary_at_a_time_and_ending_it_gives_all_runs_back(desk: Desk) -> None:
    second, third = await desk.apply("rollouts_bad"), await desk.apply("rollouts_good", instructions="Third.")
    await desk.order(second, percent=50)
    key = await desk.key_of(canary=True)
    with pytest.raises(CanaryRuns):
        await desk.order(third, percent=5)
    async with desk.held.doors.open(desk.held.organization) as work:
        await service.end_canary(work, desk.deployment, Status.SUPERSEDED, desk.skills, by="ann", at=now())
    (run,) = await desk.ran(["easy"], key=key)
    assert run.revision == 1
    async with desk.held.doors.open(desk.held.organization) as work:
        with pytest.raises(NoCanary):
            await service.end_canary(work, desk.deployment, Status.SUPERSEDED, desk.skills, by="ann", at=now())
    with pytest.raises(NeverServed):  # a share is not the whole: nothing is known good about it
        await desk.rollback(second)


async def test_a_canary_that_fails_more_is_rolled_back_by_itself_with_its_figures(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    mine, theirs = await desk.key_of(canary=True), await desk.key_of(canary=False)
    await desk.ran(["hard"] * 4, key=mine)
    await desk.ran(["hard"] * 12, key=theirs)
    assert await desk.watch() == ()  # four samples show nothing: it goes on
    await desk.ran(["hard"] * 4, key=mine)
    (breach,) = await desk.watch()
    assert "success_rate of the canary 0 (" in breach
    assert "8 samples" in breach
    assert "12 samples" in breach
    found = await desk.now_serving()
    assert (found.version, found.canary) == (first, None)
    assert (await desk.history())[0].status is Status.ROLLED_BACK
    assert breach in (await desk.history())[0].reason
    (fact,) = of(desk.facts, CanaryBreached)
    assert (fact.version, fact.because) == (second, [breach])
    assert of(desk.facts, CanaryEnded)[-1].ended_by == "platform:canary"
    (record,) = await canaries(desk)
    assert (record.outcome, record.breaches) == ("rolled_back", (breach,))
    assert await desk.watch() == ()
    (run,) = await desk.ran(["hard"], key=mine)
    assert run.version == first


async def test_a_canary_as_good_as_what_serves_goes_on(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    await desk.order(second, percent=50)
    await desk.gate()
    mine, theirs = await desk.key_of(canary=True), await desk.key_of(canary=False)
    await desk.ran(["hard"] * 8, key=mine)
    await desk.ran(["hard"] * 8, key=theirs)
    assert await desk.watch() == ()
    assert (await desk.now_serving()).canary is not None


async def test_a_gate_ends_a_canary_that_was_forced_only_by_runs_since(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    await desk.gate()
    with pytest.raises(GateFailed):
        await desk.order(second, percent=60)
    async with desk.held.doors.open(desk.held.organization) as work:
        await service.end_canary(work, desk.deployment, Status.SUPERSEDED, desk.skills, by="ann", at=now())
    await desk.order(second, percent=50, force=True, reason="we watch it")
    assert await desk.watch() == ()  # what failed before was overridden
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    (breach,) = await desk.watch()
    assert breach.startswith("success_rate >= 0.9 (the organization): failed with 0 (0 to")


async def test_a_gate_ends_no_canary_that_may_well_be_good_enough(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.gate()
    await desk.ran(["easy"] * 3 + ["hard"], key=await desk.key_of(canary=True))
    assert await desk.watch() == ()  # 75 % of four runs shows nothing
    await desk.ran(["hard"] * 6, key=await desk.key_of(canary=True))
    (breach,) = await desk.watch()
    assert "failed with 0.3 (" in breach


async def test_a_canary_is_compared_with_the_runs_before_it_where_the_other_has_too_few_since(desk: Desk) -> None:
    await desk.ran(["hard"] * 12)
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=99)
    await desk.ran(["hard"] * 8, key=await desk.key_of(canary=True))
    (breach,) = await desk.watch()
    assert "8 samples), of the version beside it 1 (" in breach
    assert "12 samples" in breach


async def test_runs_of_the_version_from_before_it_was_a_canary_say_nothing_of_it(desk: Desk) -> None:
    second, third = await desk.apply("rollouts_bad"), await desk.apply("rollouts_good", instructions="Third.")
    await desk.order(second)
    parked = [await desk.start("hard") for _ in range(3)]
    await desk.order(third)
    await desk.order(second, percent=50)
    await desk.gate()
    for run_id in parked:
        run = await desk.held.finish(run_id)
        async with desk.held.doors.open(desk.held.organization) as work:
            await scores.score(work, run.id, at=now())
    assert await desk.watch() == ()
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    assert len(await desk.watch()) == 1


async def test_one_worker_at_a_time_judges_a_canary(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.gate()
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    async with desk.held.doors.open(desk.held.organization) as work:
        assert await store.alone(work, desk.deployment)
        assert await desk.watch() == ()
    assert len(await desk.watch()) == 1


async def test_whatever_is_watched_is_looked_at_in_each_turn_however_much_there_is(
    desk: Desk, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = []
    for name in ("tester", "tester_b", "tester_c"):
        await desk.apply("rollouts_good", agent=name)
        await desk.order(await desk.apply("rollouts_good", agent=name, instructions="Second."), percent=50)
        watched.append(desk.deployment)
    monkeypatch.setattr(watch, "PAGE", 1)
    looked: list[str] = []

    async def look(_work: Any, deployment_id: str, *_: Any, **__: Any) -> tuple[str, ...]:
        looked.append(deployment_id)
        return ()

    monkeypatch.setattr(watch, "watch", look)
    assert await watch.tick(desk.held.doors, desk.skills, SETTINGS, desk.held.parts.meter) >= 3
    assert [one for one in looked if one in watched] == sorted(watched)


async def test_of_a_hundred_canaries_just_above_a_gate_hardly_one_is_thrown_out_in_500_looks() -> None:
    gate = Gate(
        GateId("gate_1"), Scope.ORGANIZATION, "", "success_rate", Comparator.AT_LEAST, 0.9, timedelta(days=7), 10,
        Severity.BLOCKER, "ana", AT,
    )  # fmt: skip
    one = CanaryRecord("dep_a", 2, "v2", "v1", "", (), "ana", AT, "open", None, ())
    chance, thrown = random.Random(20261121), 0
    unread: Any = None  # this gate asks for nothing of the version beside it
    for _ in range(100):
        runs = [scored(ok=chance.random() < 0.92) for _ in range(500)]
        looks = [await breaches.fails(gate, one, runs[:seen], unread, AT) for seen in range(10, 500, 10)]
        thrown += any(looks)
    assert thrown <= 2
    bad = [scored(ok=chance.random() < 0.7) for _ in range(100)]
    assert "failed with 0." in await breaches.fails(gate, one, bad, unread, AT)


async def test_a_canary_that_takes_longer_is_rolled_back_by_its_gate(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.ran(["easy"] * 3, key=await desk.key_of(canary=True))
    await desk.gate(metric="run_seconds_p95", comparator=Comparator.BELOW, threshold=0.0)
    (breach,) = await desk.watch()
    assert "run_seconds_p95 < 0" in breach


async def test_a_canary_whose_runs_hang_is_rolled_back_and_those_that_wait_for_people_do_not_hang(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    await desk.order(second, percent=50)
    mine, theirs = await desk.key_of(canary=True), await desk.key_of(canary=False)
    for _ in range(6):
        await desk.start(key=mine)
    await desk.ran(["easy"] * 6, key=theirs)
    assert await desk.watch(now() + timedelta(seconds=290)) == ()
    waiting = text(
        "UPDATE runs SET waiting = jsonb_build_object('reason', CAST(:reason AS text)) WHERE ended_at IS NULL"
    )
    for person in ("approval", "stopped", "deployment_paused"):
        async with desk.held.doors.open(desk.held.organization) as work:
            await work.run(waiting, {"reason": person})
        assert await desk.watch(now() + timedelta(seconds=310)) == ()
    async with desk.held.doors.open(desk.held.organization) as work:
        await work.run(waiting, {"reason": "model"})
    (breach,) = await desk.watch(now() + timedelta(seconds=310))
    assert breach.startswith(
        "6 of 6 runs of the canary take longer than 300 s (6 are open), of the version beside it 0 of 6"
    )
    assert (await desk.now_serving()).canary is None


async def test_runs_that_waited_for_people_do_not_hang_when_they_have_their_answer(desk: Desk) -> None:
    script = {"provider": "stub", "script": [calls(("pay", 1)), DONE]}
    asks = {"model": script, "skills": [{"name": "pay", "version": "1"}], "tier": "L3"}
    await desk.order(await desk.apply("", **asks), percent=50)
    mine, theirs = await desk.key_of(canary=True), await desk.key_of(canary=False)
    for _ in range(6):
        run_id = await desk.start(key=mine)
        await desk.held.finish(run_id)
        await answered(desk.held, run_id, approved=True)
        await desk.held.finish(run_id, 2)
        async with desk.held.doors.open(desk.held.organization) as work:
            await scores.score(work, run_id, at=now())
            await work.run(text("UPDATE quality_runs SET seconds = 1200 WHERE run_id = :id"), {"id": run_id})
    await desk.ran(["easy"] * 6, key=theirs)
    assert await desk.watch(now() + timedelta(seconds=310)) == ()


async def test_a_canary_is_no_worse_where_the_runs_beside_it_hang_as_well(desk: Desk) -> None:
    await desk.ran(["easy"] * 6)
    await desk.order(await desk.apply("rollouts_good", instructions="Be done, better."), percent=50)
    for canary in (True, False):
        for _ in range(6):
            await desk.start(key=await desk.key_of(canary=canary))
    assert await desk.watch(now() + timedelta(seconds=310)) == ()  # no worker is there


async def test_another_promotion_or_a_retirement_ends_the_canary(desk: Desk) -> None:
    second, third = await desk.apply("rollouts_bad"), await desk.apply("rollouts_good", instructions="Third.")
    await desk.order(second, percent=50)
    await desk.order(third)
    assert (await desk.now_serving()).canary is None
    await desk.order(second, percent=50)
    async with desk.held.doors.open(desk.held.organization) as work:
        await service.turn(work, desk.deployment, Change.RETIRE, desk.skills, by="ann", at=now())
    assert [one.outcome for one in await canaries(desk)] == ["retired", "superseded"]


async def test_a_version_whose_canary_failed_is_not_known_good(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    second, third = await desk.apply("rollouts_bad"), await desk.apply("rollouts_good", instructions="Third.")
    await desk.order(second)
    await desk.order(third)
    assert first is not None
    await desk.order(second, percent=50)
    async with desk.held.doors.open(desk.held.organization) as work:
        await service.end_canary(work, desk.deployment, Status.ROLLED_BACK, desk.skills, by="ann", at=now())
    assert (await desk.rollback()).deployment.version == first
