"""A version is judged by every gate that applies to it, and what is not known never passes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from agentos.control.agents import service as agents
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment
from agentos.evidence.evals import service as evals
from agentos.evidence.evals.model import DatasetUnknown, Latest
from agentos.evidence.quality import scores, service
from agentos.evidence.quality.model import (
    Comparator,
    FreezeScope,
    FreezeUnknown,
    FrozenAlready,
    Gate,
    GateInvalid,
    GateKnown,
    Judgement,
    MetricUnknown,
    Scope,
    ScopeInvalid,
    Severity,
)
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import MalformedId, OrgId
from agentos.kernel.unit_of_work import UnitOfWork
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def ended(held: Harness, times: int) -> None:
    """So many runs, over and scored."""
    for _ in range(times):
        run = await held.finish(await held.start())
        async with held.doors.open(held.organization) as work:
            await scores.score(work, run.id, at=now())


async def gate(held: Harness, **given: Any) -> Gate:
    said: dict[str, Any] = {
        "scope": Scope.ORGANIZATION,
        "target": "",
        "metric": "success_rate",
        "comparator": Comparator.AT_LEAST,
        "threshold": 0.9,
        "lookback": timedelta(days=1),
        "samples": 3,
        "severity": Severity.BLOCKER,
    }
    async with held.doors.open(held.organization) as work:
        return await service.add_gate(work, **said | given, by="operator", at=now())


async def golden(held: Harness, expected: int) -> str:
    """The hash of a data set of one case."""
    case = {"id": "c1", "input": {"n": 1}, "expected": {"n": expected}, "scorer": "exact"}
    async with held.doors.open(held.organization) as work:
        return (await evals.add_dataset(work, "golden", json.dumps(case).encode(), by="ana", at=now())).hash


async def judged(held: Harness, deployment_id: str) -> Judgement:
    """What the gates say of the version that serves."""
    async with held.doors.open(held.organization) as work:
        found = await deployments.get(work, deployment_id)
        assert found.version is not None
        return await service.judge(work, deployment_id, found.version, at=now() + timedelta(seconds=1))


async def deployment(held: Harness, deployment_id: str) -> Deployment:
    async with held.doors.open(held.organization) as work:
        return await deployments.get(work, deployment_id)


async def test_without_gates_nothing_stands_against_a_version(held: Harness) -> None:
    assert (await judged(held, await held.agent([DONE]))).blocking == ()


async def test_an_organization_wide_blocker_blocks_a_version_that_fails(held: Harness) -> None:
    of = await held.agent([calls(("look", 1))], budgets={"turns": 1})
    await ended(held, 3)
    await gate(held)
    (reason,) = (await judged(held, of)).blocking
    assert "success_rate >= 0.9 (the organization): failed with 0 (0 to" in reason
    assert "3 samples" in reason


async def test_gates_of_deployment_role_and_organization_all_apply(held: Harness) -> None:
    of = await held.agent([DONE])
    await ended(held, 3)
    await gate(held)
    await gate(held, scope=Scope.ROLE, target="tests")
    await gate(held, scope=Scope.DEPLOYMENT, target=of, metric="run_seconds_p95", comparator=Comparator.BELOW,
               threshold=0.0)  # fmt: skip
    with pytest.raises(ScopeInvalid, match="no agent is of the category 'others'"):  # it would hold nothing
        await gate(held, scope=Scope.ROLE, target="others", threshold=0.5)
    found = await judged(held, of)
    assert [one.passed for one in found.verdicts] == [True, True, False]
    assert len(found.blocking) == 1


async def test_a_blocker_without_enough_samples_blocks_and_says_how_many_are_missing(held: Harness) -> None:
    of = await held.agent([DONE])
    await ended(held, 2)
    await gate(held)
    found = await judged(held, of)
    assert found.verdicts[0].passed is None
    assert found.verdicts[0].value == 1.0
    assert "unknown, 2 of 3 samples in the last 1 day" in found.blocking[0]


async def test_a_gate_that_warns_blocks_nothing(held: Harness) -> None:
    of = await held.agent([DONE])
    await gate(held, severity=Severity.WARN)
    found = await judged(held, of)
    assert found.blocking == ()
    assert len(found.warnings) == 1


async def test_a_freeze_blocks_with_perfect_data_until_it_is_lifted(held: Harness) -> None:
    of = await held.agent([DONE])
    await ended(held, 3)
    await gate(held)
    assert (await judged(held, of)).blocking == ()
    async with held.doors.open(held.organization) as work:
        with pytest.raises(ScopeInvalid):
            await service.freeze(work, scope=FreezeScope.ROLE, target="tetss", reason="x", by="ana", at=now())
    for scope, target in ((FreezeScope.AGENT, "tester"), (FreezeScope.ROLE, "tests"), (FreezeScope.ORGANIZATION, "")):
        about: dict[str, Any] = {"scope": scope, "target": target, "by": "ana", "at": now()}
        async with held.doors.open(held.organization) as work:
            frozen = await service.freeze(work, **about, reason="an audit")
        (reason,) = (await judged(held, of)).blocking
        assert "is frozen since" in reason
        assert "by ana: an audit" in reason
        async with held.doors.open(held.organization) as work:
            with pytest.raises(FrozenAlready):
                await service.freeze(work, **about, reason="another")
        async with held.doors.open(held.organization) as work:
            assert await service.list_freezes(work) == [frozen]
            assert await service.list_freezes(work, after=frozen.id) == []
            lifted = await service.unfreeze(work, frozen.id, reason="over", by="ben", at=now())
        assert (lifted.lifted_by, lifted.lift_reason) == ("ben", "over")
        assert (await judged(held, of)).blocking == ()
    async with held.doors.open(held.organization) as work:
        with pytest.raises(FreezeUnknown):
            await service.unfreeze(work, frozen.id, reason="again", by="ben", at=now())


async def test_a_version_without_runs_is_compared_with_nothing_and_blocked(held: Harness) -> None:
    await held.agent([DONE], budgets={"turns": 7})
    of = await held.agent([DONE])
    await ended(held, 3)
    await gate(held, comparator=Comparator.NO_WORSE, threshold=0.9)
    async with held.doors.open(held.organization) as work:
        _, found = await service.judge_named(work, of, "1", at=now() + timedelta(seconds=1))
    assert "unknown, 0 of 3 samples of the version and 3 of the serving one" in found.blocking[0]


async def test_without_a_name_and_a_draft_what_serves_is_judged(held: Harness) -> None:
    of = await held.agent([DONE])
    for named, expected in (("", 1), ("1", 1)):
        async with held.doors.open(held.organization) as work:
            assert (await service.judge_named(work, of, named, at=now()))[0].number == expected
    await held.agent([DONE], budgets={"turns": 7})
    await held.agent([DONE], budgets={"turns": 8})
    async with held.doors.open(held.organization) as work:
        assert (await service.judge_named(work, of, "", at=now()))[0].number == 3


async def test_an_unknown_metric_is_refused_with_those_that_exist(held: Harness) -> None:
    with pytest.raises(MetricUnknown) as refused:
        await gate(held, metric="vibes")
    assert "success_rate" in refused.value.then


async def test_the_same_gate_is_not_kept_twice(held: Harness) -> None:
    await gate(held)
    with pytest.raises(GateKnown):
        await gate(held, threshold=0.5)


async def test_a_scope_needs_its_target_and_the_organization_has_none(held: Harness) -> None:
    with pytest.raises(ScopeInvalid):
        await gate(held, target="tests")
    with pytest.raises(ScopeInvalid):
        await gate(held, scope=Scope.ROLE)


@pytest.mark.parametrize(
    ("metric", "comparator", "threshold"),
    [
        ("success_rate", Comparator.AT_LEAST, 90),
        ("success_rate", Comparator.NO_WORSE, 5),
        ("success_rate", Comparator.NO_WORSE, 1),
        ("drift", Comparator.AT_MOST, 80),
        ("eval:golden", Comparator.AT_LEAST, -0.1),
    ],
)
async def test_a_gate_that_says_the_same_of_every_version_is_refused(
    held: Harness, metric: str, comparator: Comparator, threshold: float
) -> None:
    with pytest.raises(GateInvalid, match="between 0 and 1"):
        await gate(held, metric=metric, comparator=comparator, threshold=threshold)


async def test_a_figure_is_of_the_runs_that_ended_within_its_time(held: Harness) -> None:
    of = await held.agent([DONE])
    await ended(held, 2)
    version = (await deployment(held, of)).version
    assert version is not None
    soon = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        assert (await agents.get_version(work, "tester", version)).number == 1
        found = await service.measured(work, of, version, "success_rate", since=soon - timedelta(hours=1), until=soon)
        none = await service.measured(work, of, version, "success_rate", since=soon, until=soon + timedelta(hours=1))
        runs = await service.measured(work, of, "", "runs", since=soon - timedelta(hours=1), until=soon)
        slow = await service.measured(work, of, "", "run_seconds_p95", since=soon - timedelta(hours=1), until=soon)
    assert (found.value, found.high, found.samples) == (1.0, 1.0, 2)
    assert found.low is not None
    assert 0.3 < found.low < 0.4
    assert (none.value, none.low, none.high, none.samples) == (None, None, None, 0)
    assert (runs.value, runs.samples) == (2.0, 2)
    assert slow.value is not None
    assert slow.low is None


async def test_an_eval_that_nobody_ran_is_unknown_and_blocks(held: Harness) -> None:
    of = await held.agent([DONE])
    await golden(held, 1)
    await gate(held, metric="eval:golden", threshold=0.9)
    found = await judged(held, of)
    assert found.verdicts[0].passed is None
    assert "0 of 3 samples" in found.blocking[0]
    with pytest.raises(MalformedId):
        await gate(held, metric="eval:../golden")
    with pytest.raises(DatasetUnknown):
        await gate(held, metric="eval:silver")


async def test_the_last_eval_of_the_version_is_judged_while_it_is_recent(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = await held.agent([DONE])
    hashed = await golden(held, 1)
    await gate(held, metric="eval:golden", threshold=0.9)
    await golden(held, 2)  # what somebody adds later is not what the gate asks for
    asked: list[tuple[str, str, str, str]] = []
    last = Latest(0.95, 0.9, 0.98, 200, "eval_1", now())

    async def latest(_work: UnitOfWork, agent_id: str, version: str, dataset: str, *, hashed: str) -> Latest:
        asked.append((agent_id, version, dataset, hashed))
        return last

    monkeypatch.setattr("agentos.evidence.evals.service.latest", latest)
    (only,) = (await judged(held, of)).verdicts
    assert (only.passed, only.value, only.samples) == (True, 0.95, 200)
    assert asked == [("tester", (await deployment(held, of)).version, "golden", hashed)]
    last = replace(last, ended_at=now() - timedelta(days=2))
    assert (await judged(held, of)).verdicts[0].passed is None
