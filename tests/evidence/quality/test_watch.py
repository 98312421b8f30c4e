"""Drift is looked at over a scope, no caller sways it alone, and what is not known is not counted as fine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality import service, watch
from agentos.evidence.quality.model import (
    Comparator,
    Scope,
    Severity,
)
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from tests.evidence.quality.runs import copies, over
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def test_runs_without_a_score_are_in_no_figure_and_are_counted_apart(held: Harness) -> None:
    of = await held.agent([DONE])
    since = now() - timedelta(hours=1)
    await over(held)
    await held.finish(await held.start())  # ends, and nobody scores it
    until = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        for scope, target, expected in (
            (Scope.ORGANIZATION, "", 1),
            (Scope.ROLE, "tests", 1),
            (Scope.ROLE, "others", 0),
            (Scope.DEPLOYMENT, of, 1),
        ):
            assert await service.unscored(work, scope, target, since=since, until=until) == expected
        assert await service.unscored(work, Scope.ORGANIZATION, "", since=since, until=since) == 0
        assert len(await service.of_scope(work, Scope.ORGANIZATION, "", since=since, until=until)) == 1


async def test_drift_without_samples_is_unknown_and_its_gauge_is_absent(held: Harness, database: Database) -> None:
    of = await held.agent([DONE])
    await over(held)
    at = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        found = await watch.look(work, Scope.DEPLOYMENT, of, at=at)
        assert await watch.look(work, Scope.DEPLOYMENT, of, at=at) is None  # somebody looked already
    assert found is not None
    assert found.score is None
    assert found.unknown == "1 of 30 runs in the window and 0 of 30 in its baseline"
    known = await watch.drifts(database, at=at)
    assert not [one for one in known if one["org"] == held.organization]


async def test_no_caller_sways_a_drift_alone_and_what_was_left_out_is_said(held: Harness) -> None:
    of = await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    await copies(held, run, 60, 48)
    await copies(held, run, 39, 2)
    await copies(held, run, 400, 1, tools=["pay"], by="mallory")
    at = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        found = await service.drift(work, Scope.DEPLOYMENT, of, at=at)
        day = at - timedelta(days=1)
        measured = await service.measured(work, of, "", "drift", since=day, until=at)
    assert found.score is not None
    assert found.score < 0.6
    (left,) = found.left_out
    assert (left.window, left.runs, left.sampled, left.sent) == ("now", 440, 80, 400)
    assert (left.requester, left.share) == ("mallory", 0.5)
    assert measured.value == pytest.approx(found.score)


async def test_who_fills_the_end_of_a_window_neither_sways_its_drift_nor_hides_the_others(held: Harness) -> None:
    of = await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    await copies(held, run, 60, 48)
    await copies(held, run, 99, 2)
    await copies(held, run, 21_000, 1, tools=["pay"], by="mallory")
    async with held.doors.open(held.organization) as work:
        found = await service.drift(work, Scope.DEPLOYMENT, of, at=now() + timedelta(seconds=1))
    (left,) = found.left_out
    assert (left.runs, left.sampled, left.requester, left.sent) == (21_100, 200, "mallory", 21_000)
    assert found.score is not None
    assert found.score < 0.6


async def test_a_busy_window_is_looked_at_in_a_sample_of_all_of_it(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    await copies(held, run, 100, 48)
    await copies(held, run, 100, 4, tools=["pay"])
    await copies(held, run, 99, 1)
    monkeypatch.setattr(drifts, "MOST", 100)
    async with held.doors.open(held.organization) as work:
        found = await service.drift(work, Scope.ROLE, "tests", at=now() + timedelta(seconds=1))
    assert [(one.window, one.runs, one.sampled, one.requester) for one in found.left_out] == [("now", 200, 100, "")]
    (tools,) = [one for one in found.dimensions if one.dimension == "tools"]
    assert "look" in tools.now
    assert "pay" in tools.now


async def test_a_gate_on_drift_is_of_its_scope_and_blocks_while_it_is_unknown(held: Harness) -> None:
    of = await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    said: dict[str, Any] = {"comparator": Comparator.BELOW, "threshold": 0.8, "severity": Severity.BLOCKER}
    said |= {"scope": Scope.ROLE, "target": "tests", "metric": "drift", "samples": 30, "by": "ana", "at": now()}
    async with held.doors.open(held.organization) as work:
        await service.add_gate(work, **said, lookback=timedelta(days=1))
        _version, first = await service.judge_named(work, of, "1", at=now() + timedelta(seconds=1))
    assert first.verdicts[0].passed is None
    assert first.blocking
    await copies(held, run, 60, 48)
    await copies(held, run, 40, 2)
    async with held.doors.open(held.organization) as work:
        _version, calm = await service.judge_named(work, of, "1", at=now() + timedelta(seconds=1))
    assert (calm.verdicts[0].value, calm.blocking) == (0.0, ())
    await copies(held, run, 40, 1, tools=["pay"])
    await copies(held, run, 200, 0.5, tools=["pay"])
    async with held.doors.open(held.organization) as work:
        _version, drifted = await service.judge_named(work, of, "1", at=now() + timedelta(seconds=1))
        soon = now() + timedelta(seconds=1)
        day = soon - timedelta(days=1)
        own = await service.measured(work, of, drifted.verdicts[0].gate.id, "drift", since=day, until=soon)
        whole = await service.measured(work, of, "", "drift", since=day, until=soon)
    assert drifted.verdicts[0].passed is False
    assert own.value is None
    assert whole.value is not None
    assert whole.value >= 0.8
