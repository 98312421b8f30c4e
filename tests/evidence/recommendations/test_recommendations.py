"""Drift is watched, and what the figures advise is opened once and settled by people."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from agentos.evidence.quality import service as quality
from agentos.evidence.quality import watch as looks
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.model import Scope
from agentos.evidence.recommendations import service, watch
from agentos.evidence.recommendations.model import Kind, RecommendationOver, RecommendationUnknown, Standing
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork
from tests.evidence.quality.runs import copies, over
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def test_a_drift_is_watched_and_told_with_its_cause(held: Harness, database: Database) -> None:
    of = await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    await copies(held, run, 60, 48)
    await copies(held, run, 40, 2, tools=["pay"], models=["claude:other"])
    at = now() + timedelta(seconds=1)
    assert await watch.look_everywhere(held.doors, at=at) >= 2
    assert await watch.look_everywhere(held.doors, at=at) == 0
    known = {(one["scope"], one["target"]): one["score"] for one in await looks.drifts(database, at=at)
             if one["org"] == held.organization}  # fmt: skip
    assert known.keys() == {("role", "tests"), ("deployment", of)}
    assert known["role", "tests"] > 0.9
    assert not await looks.drifts(database, at=at + looks.STALE + timedelta(seconds=1))
    async with held.doors.open(held.organization) as work:
        found = await quality.drift(work, Scope.ROLE, "tests", at=at)
        (advised,) = [one for one in await service.list_recommendations(work) if one.scope is Scope.ROLE]
    assert found.leading == "tools"
    assert found.causes[0].factor == "model"
    assert advised.kind is Kind.EVAL_DRIFT
    assert "goes with model" in advised.text


async def test_of_a_kind_and_scope_one_recommendation_is_open_and_people_settle_it(held: Harness) -> None:
    await held.agent([DONE])
    run = await over(held)
    await copies(held, run, 40, 2, feedback="rejected")
    at = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        (made,) = await service.recommend(work, Scope.ORGANIZATION, "", at=at)
        assert (made.kind, made.evidence["accepted_rate"]["samples"]) == (Kind.PROMPT, 40)
        assert await service.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        accepted = await service.settle(work, made.id, Standing.ACCEPTED, reason="on it", by="ana", at=at)
        assert (accepted.standing, accepted.changed_by, accepted.reason) == (Standing.ACCEPTED, "ana", "on it")
        assert await service.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        await service.settle(work, made.id, Standing.RESOLVED, reason="new prompt", by="ben", at=at - service.QUIET)
        with pytest.raises(RecommendationOver):
            await service.settle(work, made.id, Standing.DISMISSED, reason="late", by="ben", at=at)
        assert await service.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        (again,) = await service.recommend(work, Scope.ORGANIZATION, "", at=at + timedelta(minutes=1))
    assert again.id != made.id


async def test_a_recommendation_that_is_not_there_is_not_settled(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RecommendationUnknown):
            await service.settle(work, "rec_unknown", Standing.ACCEPTED, reason="x", by="ana", at=now())


async def test_a_scope_that_cannot_be_looked_at_hides_no_other(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await held.agent([DONE])
    await over(held)
    looked, look = [], looks.look

    async def looking(work: UnitOfWork, scope: Scope, target: str, *, at: datetime) -> Drift | None:
        if work.organization == held.organization:
            looked.append((scope.value, target))
            if scope is Scope.DEPLOYMENT:
                raise ValueError("a row that nobody expected")
        return await look(work, scope, target, at=at)

    monkeypatch.setattr(looks, "look", looking)
    await watch.look_everywhere(held.doors, at=now())
    assert sorted(looked) == [("deployment", of), ("role", "tests")]
