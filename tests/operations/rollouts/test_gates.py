"""Nothing serves past a gate or a freeze, unless somebody who may says why; and then everybody can see it."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import agentos
from agentos.control.deployments import applying
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import PreconditionFailed
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Comparator, FreezeScope, GateInvalid, Judgement, Scope, Severity
from agentos.evidence.replay.what_if import Result, Side
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.operations.rollouts import service, trials
from agentos.operations.rollouts.judging import Order
from agentos.operations.rollouts.model import UNTRIED, Allowance, Frozen, GateFailed, GatesOverridden, ReasonMissing
from tests.operations.rollouts.desk import Desk, of
from tests.runtime.runs.harness import harness

HARD = ["easy", "hard", "hard", "hard"]


@pytest.fixture
async def desk(database: Database, organization: OrgId) -> Desk:
    made = Desk(harness(database, organization))
    await made.apply("rollouts_good")
    return made


async def test_without_gates_a_version_serves_and_the_history_says_so(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    async with desk.held.doors.open(desk.held.organization) as work:
        draft, _ = await quality.judge_named(work, desk.deployment, "", at=now())
    assert draft.hash == second
    done = await desk.order(second)
    assert done.deployment.version == second
    assert (await desk.history())[0].reason == "promoted: no gate applied"


async def test_a_gate_whose_figure_is_unknown_refuses_with_what_is_missing(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.gate()
    with pytest.raises(GateFailed, match="unknown, 0 of 3 samples") as refused:
        await desk.order(second)
    (gate,) = refused.value.extra["gates"]
    assert (gate["result"], gate["value"], gate["samples"], gate["threshold"]) == ("unknown", "unknown", 0, 0.9)
    assert (await desk.now_serving()).version != second


async def test_a_bad_version_is_refused_with_value_interval_samples_and_threshold(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.ran(HARD, key=await desk.key_of(canary=True))
    await desk.gate()
    with pytest.raises(GateFailed) as refused:
        await desk.order(second)
    (gate,) = refused.value.extra["gates"]
    assert (gate["result"], gate["value"], gate["samples"], gate["threshold"]) == ("failed", 0.25, 4, 0.9)
    low, high = gate["interval"]
    assert 0 < low < 0.25 < high < 1


async def test_overriding_a_gate_takes_a_reason_and_is_kept_in_history_and_fact(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.gate()
    with pytest.raises(ReasonMissing):
        await desk.order(second, force=True, reason=" ")
    done = await desk.order(second, force=True, reason="the customer waits")
    assert done.overridden
    (fact,) = of(desk.facts, GatesOverridden)
    assert (fact.version, fact.overridden_by) == (second, "author")
    assert "0 of 3 samples" in fact.because[0]
    reason = (await desk.history())[0].reason
    assert reason.startswith("promoted: past gates: success_rate >= 0.9")
    assert reason.endswith("the customer waits")


async def test_a_freeze_refuses_with_perfect_data_and_nothing_overrides_it(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    await desk.order(second, percent=50)
    await desk.ran(["easy"] * 3, key=await desk.key_of(canary=True))
    await desk.gate()
    async with desk.held.doors.open(desk.held.organization) as work:
        scope = FreezeScope.AGENT
        held = await quality.freeze(work, scope=scope, target="tester", reason="audit", by="ann", at=now())
    for force in (False, True):
        with pytest.raises(Frozen, match=r"is frozen since .* by ann: audit"):
            await desk.order(second, force=force, reason="now")
    with pytest.raises(Frozen):
        await desk.order(second, percent=60)
    async with desk.held.doors.open(desk.held.organization) as work:
        await quality.unfreeze(work, held.id, reason="ok", by="ann", at=now())
    assert (await desk.order(second)).deployment.version == second
    assert "1 of 1 gates passed" in (await desk.history())[0].reason


async def test_another_category_leaves_no_gate_and_no_freeze_of_the_role_behind(desk: Desk) -> None:
    await desk.gate(scope=Scope.ROLE, target="tests")
    second = await desk.apply("rollouts_good", category="misc")
    with pytest.raises(GateFailed, match=r"role 'tests'.*0 of 3 samples"):
        await desk.order(second)
    async with desk.held.doors.open(desk.held.organization) as work:
        await quality.freeze(work, scope=FreezeScope.ROLE, target="tests", reason="audit", by="ann", at=now())
    with pytest.raises(Frozen, match="role 'tests' is frozen"):
        await desk.order(second)


async def test_the_category_that_a_version_moves_to_has_its_say_as_well(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", category="misc")
    await desk.gate(scope=Scope.ROLE, target="misc")
    with pytest.raises(GateFailed, match="role 'misc'"):
        await desk.order(second)


async def test_a_deployment_in_the_place_of_a_retired_one_is_held_by_its_gates(desk: Desk) -> None:
    await desk.gate(scope=Scope.DEPLOYMENT, target=desk.deployment)
    await desk.gate(scope=Scope.ROLE, target="tests", metric="runs", threshold=1)
    second = await desk.apply("rollouts_good", category="misc")
    async with desk.held.doors.open(desk.held.organization) as work:
        await deployments.retire(work, desk.deployment, by="ann", at=now())
        made = await applying.create(work, "tester", "production", second, desk.skills, by="ann", at=now())
    desk.deployment = made.id
    with pytest.raises(GateFailed) as refused:
        await desk.order(second)
    assert [one["scope"] for one in refused.value.extra["gates"]] == ["deployment", "role"]


async def test_a_freeze_does_not_hold_a_rollback(desk: Desk) -> None:
    first = (await desk.now_serving()).version
    await desk.order(await desk.apply("rollouts_bad"))
    async with desk.held.doors.open(desk.held.organization) as work:
        await quality.freeze(work, scope=FreezeScope.ORGANIZATION, target="", reason="audit", by="ann", at=now())
    assert (await desk.rollback()).deployment.version == first


async def test_a_gate_that_warns_is_told_and_refuses_nothing(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.gate(severity=Severity.WARN)
    done = await desk.order(second)
    assert done.judged is not None
    assert "0 of 3 samples" in done.judged.judgement.warnings[0]


async def test_recorded_runs_that_would_end_otherwise_refuse_a_version(desk: Desk) -> None:
    await desk.ran(["easy", "hard", "easy", "hard"])
    second = await desk.apply("rollouts_bad")
    trials = await desk.tried(second, 4)
    tried = trials.tried
    assert tried is not None
    assert (tried.runs, tried.known, tried.changed) == (4, 4, 2)
    with pytest.raises(GateFailed, match=r"2 of 4 runs end otherwise \(50.0 %\), at most 0 % may") as refused:
        await desk.order(second, trials=trials)
    assert refused.value.extra["what_if"]["outcomes_changed"] == 2
    changed = refused.value.extra["what_if"]["figures"]["changed"]
    assert (changed["value"], changed["samples"]) == (0.5, 4)
    assert 0 < changed["low"] < 0.5 < changed["high"] < 1
    allowed = await desk.tried(second, 4, changed_percent=50.0)
    assert (await desk.order(second, trials=allowed)).deployment.version == second
    assert "1 of 1 gates passed" in (await desk.history())[0].reason


async def test_only_recorded_runs_of_the_version_that_serves_are_tried(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.ran(["hard"] * 2, key=await desk.key_of(canary=False))
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    tried = (await desk.tried(second, 3)).tried
    assert tried is not None
    assert (tried.runs, tried.changed) == (2, 2)  # of its own runs it would change none


async def test_without_recorded_runs_a_what_if_is_unknown_and_refuses(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    with pytest.raises(GateFailed, match="0 of 0 runs is known"):
        await desk.order(second, trials=await desk.tried(second, 10))


WHAT_IF = {"metric": "what_if:changed", "comparator": Comparator.AT_MOST, "threshold": 0.0, "samples": 3}


async def test_a_gate_on_recorded_runs_holds_every_promotion_without_being_asked_for(desk: Desk) -> None:
    await desk.gate(**WHAT_IF)
    await desk.ran(["easy", "hard"])
    second, third = await desk.apply("rollouts_bad"), await desk.apply("rollouts_good", instructions="Third.")
    with pytest.raises(GateFailed, match=r"unknown, 2 of 3 recorded runs tried in the last 1 day"):
        await desk.order(third, trials=await desk.tried(third))
    await desk.ran(["easy", "hard"])
    with pytest.raises(GateFailed, match=r"what_if:changed <= 0 .* failed with 0.5 \(.*, 4 samples\)") as refused:
        await desk.order(second, trials=await desk.tried(second))
    (gate,) = refused.value.extra["gates"]
    assert (gate["value"], gate["samples"], gate["samples_needed"]) == (0.5, 4, 3)
    low, high = gate["interval"]
    assert 0 < low < 0.5 < high < 1
    assert refused.value.extra["what_if"] is None  # nobody asked for it
    with pytest.raises(GateFailed, match="0 of 3 recorded runs tried"):
        await desk.order(third)  # a door that does not try them does not pass
    assert (await desk.order(third, trials=await desk.tried(third))).deployment.version == third


async def test_a_gate_on_recorded_runs_reads_no_older_ones_than_it_looks_back_to(desk: Desk) -> None:
    await desk.ran(["hard"] * 3)
    async with desk.held.doors.open(desk.held.organization) as work:
        await work.run(text("UPDATE runs SET ended_at = ended_at - interval '2 days'"))
    await desk.gate(**WHAT_IF)
    await desk.ran(["easy"] * 3)
    second = await desk.apply("rollouts_bad")
    assert (await desk.order(second, trials=await desk.tried(second))).deployment.version == second


async def test_a_small_canary_is_not_tried_on_recorded_runs_and_one_of_most_runs_is(desk: Desk) -> None:
    await desk.gate(**WHAT_IF)
    await desk.ran(["hard"] * 3)
    second = await desk.apply("rollouts_bad")
    assert await desk.tried(second, percent=50) is UNTRIED
    await desk.order(second, percent=50)
    with pytest.raises(GateFailed, match=r"what_if:changed <= 0 .* failed with 1"):
        await desk.order(second, percent=51, trials=await desk.tried(second, percent=51))
    assert await desk.tried(second, percent=40) is UNTRIED


async def test_what_is_deployed_while_recorded_runs_are_tried_is_not_promoted_over(desk: Desk) -> None:
    await desk.gate(**WHAT_IF)
    await desk.ran(["easy"] * 3)
    second = await desk.apply("rollouts_good", instructions="Second.")
    trials = await desk.tried(second)
    await desk.apply("rollouts_good", instructions="Third.")
    with pytest.raises(PreconditionFailed):
        await desk.order(second, trials=trials)


async def test_a_gate_on_recorded_runs_asks_for_no_more_than_are_tried(desk: Desk) -> None:
    with pytest.raises(GateInvalid, match="1 to 100 of them"):
        await desk.gate(**WHAT_IF | {"samples": 101})
    with pytest.raises(GateInvalid, match="cannot be compared by what_if:changed"):
        await desk.gate(**WHAT_IF | {"comparator": Comparator.NO_WORSE, "threshold": 0.1})


async def test_a_stale_state_is_told_before_the_gates_are(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.gate()
    async with desk.held.doors.open(desk.held.organization) as work:
        with pytest.raises(PreconditionFailed):
            await service.promote(
                work, desk.deployment, Order(second), desk.skills, by="a", at=now(), if_match=frozenset({999})
            )


async def test_a_canary_of_most_runs_is_refused_while_a_gate_knows_nothing(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    await desk.gate()
    with pytest.raises(GateFailed, match="0 of 3 samples"):
        await desk.order(second, percent=51)
    await desk.order(second, percent=50)
    with pytest.raises(GateFailed, match="0 of 3 samples"):
        await desk.order(second, percent=99)
    await desk.ran(["easy"] * 3, key=await desk.key_of(canary=True))
    found = (await desk.order(second, percent=99)).deployment.canary
    assert found is not None
    assert found.percent == 99


async def test_neither_a_gate_nor_a_freeze_keeps_a_canary_from_becoming_smaller(desk: Desk) -> None:
    second = await desk.apply("rollouts_bad")
    await desk.order(second, percent=50)
    await desk.ran(["hard"] * 3, key=await desk.key_of(canary=True))
    await desk.gate()
    async with desk.held.doors.open(desk.held.organization) as work:
        await quality.freeze(work, scope=FreezeScope.ORGANIZATION, target="", reason="audit", by="ann", at=now())
    for percent in (50, 5):
        found = (await desk.order(second, percent=percent)).deployment.canary
        assert found is not None
        assert found.percent == percent


async def test_what_changes_while_gates_are_judged_is_not_promoted_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    judge = quality.judge

    async def judging(*args: Any, **named: Any) -> Judgement:
        found = await judge(*args, **named)
        await desk.apply("rollouts_bad")  # by somebody else, in a unit of work of its own
        return found

    monkeypatch.setattr(quality, "judge", judging)
    with pytest.raises(PreconditionFailed):
        await desk.order(second)


async def test_a_freeze_that_comes_while_gates_are_judged_holds(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    judge = quality.judge

    async def judging(*args: Any, **named: Any) -> Judgement:
        found = await judge(*args, **named)
        async with desk.held.doors.open(desk.held.organization) as work:
            await quality.freeze(work, scope=FreezeScope.ORGANIZATION, target="", reason="audit", by="ann", at=now())
        return found

    monkeypatch.setattr(quality, "judge", judging)
    with pytest.raises(Frozen):
        await desk.order(second, force=True, reason="now")


async def test_gates_look_back_from_the_time_that_they_are_told(desk: Desk) -> None:
    second = await desk.apply("rollouts_good", instructions="Be done, better.")
    await desk.order(second, percent=50)
    await desk.ran(["easy"] * 3, key=await desk.key_of(canary=True))
    await desk.gate(lookback=timedelta(hours=1))
    with pytest.raises(GateFailed, match="0 of 3 samples"):
        await desk.order(second, at=now() + timedelta(hours=2))
    assert (await desk.order(second)).deployment.version == second


def test_no_other_module_changes_a_deployment() -> None:
    source = Path(agentos.__file__).parent
    orders = re.compile(r"\bdeployments\.(promote|canary|end_canary|rollback|pause|resume|retire|set_tier)\b")
    found = {str(file.relative_to(source)) for file in source.rglob("*.py") if orders.search(file.read_text())}
    assert found == {"operations/rollouts/service.py"}
    own = (source / "control" / "deployments" / "routes.py").read_text()
    assert not re.search(r"service\.(promote|canary|end_canary|rollback|pause|resume|retire|set_tier)\b", own)


def test_of_runs_that_could_not_be_followed_nobody_says_that_they_did_the_same() -> None:
    side = Side("completed", "", "sha256:0", 1, 10, 5)
    lost = Result("run_1", side, side, divergence=None, whole=False, why="the model is not asked", asked=0)
    assert all(one.value is None and one.samples == 0 for one in trials.figures_of([lost] * 50).values())
    same = replace(lost, whole=True)
    assert trials.figures_of([lost] * 50 + [same] * 9)["what_if:diverged"].samples == 9
    found = trials.tried(Allowance(20, diverged_percent=10), [lost] * 10 + [same] * 10)
    assert (found.runs, found.known, found.told, found.diverged) == (20, 10, 10, 0)
