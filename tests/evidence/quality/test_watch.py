"""Runs are scored as they end, people's words count, drift is watched, and advice is opened once."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality import service, watch
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    Comparator,
    Feedback,
    Kind,
    RecommendationOver,
    RecommendationUnknown,
    RunNotScored,
    RunStillOpen,
    Scope,
    Severity,
    Standing,
)
from agentos.evidence.quality.scorer import KEPT, Scorer
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Delivery, Position
from agentos.kernel.retention import forget
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs.model import DraftUnknown, RunEnded, RunUnknown
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def over(held: Harness) -> str:
    """A run that is over and that the consumer has scored."""
    run = await held.finish(await held.start())
    fact = RunEnded(run.id, run.deployment_id, run.agent_id, run.version, run.status, "")
    await Scorer(held.doors).consumer().handle(Delivery(Position.start(), held.organization, fact, now()))
    return str(run.id)


async def copies(held: Harness, run_id: str, times: int, hours: float, **changes: Any) -> None:
    """So many runs like this one that ended so many hours ago, with other features."""
    columns = (
        "run_id, deployment_id, agent_id, category, version, requested_by, status, counted, seconds, score, formula"
    )
    async with held.doors.open(held.organization) as work:
        await work.run(
            text(
                "INSERT INTO runs SELECT (jsonb_populate_record("
                "r, jsonb_build_object('id', r.id || '_' || CAST(:mark AS text) || i))).* "
                "FROM runs r, generate_series(1, :times) AS i WHERE r.id = :run"
            ),
            {"mark": f"{hours:g}_", "times": times, "run": run_id},
        )
        await work.run(
            text(
                f"INSERT INTO quality_runs (org, {columns}, parts, features, feedback, ended_at, scored_at) "
                "SELECT org, run_id || '_' || CAST(:mark AS text) || i, deployment_id, agent_id, category, version, "
                "coalesce(:by, requested_by), status, counted, seconds, score, formula, parts, "
                "features || CAST(:changes AS jsonb), "
                "CAST(:feedback AS text), clock_timestamp() - make_interval(secs => :seconds), scored_at "
                "FROM quality_runs, generate_series(1, :times) AS i WHERE run_id = :run"
            ),
            {
                "mark": f"{hours:g}_",
                "times": times,
                "run": run_id,
                "seconds": hours * 3600.0,
                "feedback": changes.pop("feedback", None),
                "by": changes.pop("by", None),
                "changes": json.dumps(changes),
            },
        )


async def test_a_run_is_scored_when_it_ends_and_says_which_parts_are_unknown(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        found = await service.show(work, run)
    assert (found.status, found.counted, found.score) == ("completed", True, 1.0)
    assert found.parts == {"completed": 1.0, "calls": 1.0, "retries": 1.0}
    assert found.features["tools"] == ["look"]
    assert found.features["reads"] == 1


async def test_a_run_with_a_denied_call_scores_less(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L0")
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        found = await service.show(work, run)
    assert found.parts["calls"] == 0.0
    assert found.score == pytest.approx(5 / 7)


async def test_a_run_that_is_not_over_has_no_score_and_takes_no_word(held: Harness) -> None:
    await held.agent([DONE])
    run = await held.start()
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RunNotScored):
            await service.show(work, run)
        with pytest.raises(RunUnknown):
            await service.show(work, "run_unknown")
        with pytest.raises(RunStillOpen):
            await service.say(work, run_id=run, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        with pytest.raises(RunUnknown):
            await service.say(work, run_id="run_unknown", verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        with pytest.raises(DraftUnknown):
            await service.say(work, draft_id="draft_unknown", verdict=Feedback.ACCEPTED, note="", by="ana", at=now())


async def test_the_last_word_on_a_run_counts_and_leaves_its_confidence_alone(held: Harness) -> None:
    await held.agent([DONE])
    run = await over(held)
    for verdict, score in ((Feedback.REJECTED, 5 / 9), (Feedback.EDITED, 7.8 / 9)):
        async with held.doors.open(held.organization) as work:
            before = (await service.show(work, run)).confidence
            await service.say(work, run_id=run, verdict=verdict, note="why", by="ana", at=now())
        async with held.doors.open(held.organization) as work:
            found = await service.show(work, run)
        assert found.score == pytest.approx(score)
        assert found.feedback == verdict
        assert found.confidence == before == 1.0
    async with held.doors.open(held.organization) as work:
        said = await service.list_feedback(work, run_id=run)
    assert [(one.verdict, one.note, one.said_by) for one in said] == [
        (Feedback.EDITED, "why", "ana"),
        (Feedback.REJECTED, "why", "ana"),
    ]


async def test_confidence_is_kept_with_its_parts_as_they_were_before_anybody_judged_the_run(held: Harness) -> None:
    await held.agent([DONE])
    first, second = await over(held), await over(held)
    async with held.doors.open(held.organization) as work:
        assert (await service.show(work, first)).grounds == {"mean": 1.0, "judged": 0, "accepted": 0}
        await service.say(work, run_id=first, verdict=Feedback.REJECTED, note="", by="ana", at=now())
    third = await over(held)
    async with held.doors.open(held.organization) as work:
        assert (await service.show(work, first)).grounds == {"mean": 1.0, "judged": 0, "accepted": 0}
        assert (await service.show(work, third)).grounds == {"mean": 1.0, "judged": 1, "accepted": 0}
        assert (await service.show(work, third)).confidence == pytest.approx(10 / 11)
        await service.say(work, run_id=second, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        await service.say(work, run_id=third, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        assert (await service.show(work, third)).grounds == {"mean": 1.0, "judged": 1, "accepted": 0}


async def test_scores_and_words_are_forgotten_in_time_and_what_figures_can_read_is_not(
    held: Harness, database: Database
) -> None:
    await held.agent([DONE])
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        await service.say(work, run_id=run, verdict=Feedback.EDITED, note="", by="ana", at=now())
    assert KEPT.kept > 2 * LONGEST_LOOKBACK
    await forget(database, KEPT, at=now() + KEPT.kept - timedelta(minutes=5))
    async with held.doors.open(held.organization) as work:
        assert (await service.show(work, run)).feedback == Feedback.EDITED
    assert await forget(database, KEPT, at=now() + KEPT.kept + timedelta(minutes=5)) > 0
    async with held.doors.open(held.organization) as work:
        assert await service.list_feedback(work, run_id=run) == []
        with pytest.raises(RunNotScored, match="completed") as refused:
            await service.show(work, run)
    assert "forgotten after 400 days" in refused.value.then


async def test_a_word_on_a_draft_counts_for_its_run(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], ["note"], tier="L1")
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        row = await work.first(text("SELECT id FROM drafts WHERE run_id = :run"), {"run": run})
        assert row is not None
        said = await service.say(work, draft_id=row.id, verdict=Feedback.NEEDS_REVIEW, note="", by="ana", at=now())
        assert said.run_id == run
        assert (await service.show(work, run)).parts["feedback"] == 0.3


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
    assert found.score is None
    assert found.unknown == "1 of 30 runs in the window and 0 of 30 in its baseline"
    known = await watch.drifts(database, at=at)
    assert not [one for one in known if one["org"] == held.organization]


async def test_a_drift_is_watched_and_told_with_its_cause(held: Harness, database: Database) -> None:
    of = await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    await copies(held, run, 60, 48)
    await copies(held, run, 40, 2, tools=["pay"], models=["claude:other"])
    at = now() + timedelta(seconds=1)
    assert await watch.look_everywhere(held.doors, at=at) >= 2
    assert await watch.look_everywhere(held.doors, at=at) == 0
    known = {(one["scope"], one["target"]): one["score"] for one in await watch.drifts(database, at=at)
             if one["org"] == held.organization}  # fmt: skip
    assert known.keys() == {("role", "tests"), ("deployment", of)}
    assert known["role", "tests"] > 0.9
    assert not await watch.drifts(database, at=at + watch.STALE + timedelta(seconds=1))
    async with held.doors.open(held.organization) as work:
        found = await service.drift(work, Scope.ROLE, "tests", at=at)
        (advised,) = [one for one in await watch.list_recommendations(work) if one.scope is Scope.ROLE]
    assert found.leading == "tools"
    assert found.causes[0].factor == "model"
    assert advised.kind is Kind.EVAL_DRIFT
    assert "goes with model" in advised.text


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


async def test_of_a_kind_and_scope_one_recommendation_is_open_and_people_settle_it(held: Harness) -> None:
    await held.agent([DONE])
    run = await over(held)
    await copies(held, run, 40, 2, feedback="rejected")
    at = now() + timedelta(seconds=1)
    async with held.doors.open(held.organization) as work:
        (made,) = await watch.recommend(work, Scope.ORGANIZATION, "", at=at)
        assert (made.kind, made.evidence["accepted_rate"]["samples"]) == (Kind.PROMPT, 40)
        assert await watch.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        accepted = await watch.settle(work, made.id, Standing.ACCEPTED, reason="on it", by="ana", at=at)
        assert (accepted.standing, accepted.changed_by, accepted.reason) == (Standing.ACCEPTED, "ana", "on it")
        assert await watch.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        await watch.settle(work, made.id, Standing.RESOLVED, reason="new prompt", by="ben", at=at - watch.QUIET)
        with pytest.raises(RecommendationOver):
            await watch.settle(work, made.id, Standing.DISMISSED, reason="late", by="ben", at=at)
        assert await watch.recommend(work, Scope.ORGANIZATION, "", at=at) == []
        (again,) = await watch.recommend(work, Scope.ORGANIZATION, "", at=at + timedelta(minutes=1))
    assert again.id != made.id


async def test_a_recommendation_that_is_not_there_is_not_settled(held: Harness) -> None:
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RecommendationUnknown):
            await watch.settle(work, "rec_unknown", Standing.ACCEPTED, reason="x", by="ana", at=now())


async def test_a_scope_that_cannot_be_looked_at_hides_no_other(held: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    of = await held.agent([DONE])
    await over(held)
    looked, look = [], watch.look

    async def looking(work: UnitOfWork, scope: Scope, target: str, *, at: datetime) -> Drift:
        if work.organization == held.organization:
            looked.append((scope.value, target))
            if scope is Scope.DEPLOYMENT:
                raise ValueError("a row that nobody expected")
        return await look(work, scope, target, at=at)

    monkeypatch.setattr(watch, "look", looking)
    await watch.look_everywhere(held.doors, at=now())
    assert sorted(looked) == [("deployment", of), ("role", "tests")]
