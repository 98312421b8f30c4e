"""Runs are scored as they end, people's words count, drift is watched, and advice is opened once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality import service, watch
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    Comparator,
    Feedback,
    RunNotScored,
    RunStillOpen,
    Scope,
    Severity,
)
from agentos.evidence.quality.scorer import KEPT
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.retention import forget
from agentos.runtime.runs.model import DraftUnknown, RunUnknown
from tests.evidence.quality.runs import copies, over
from tests.runtime.runs.harness import DONE, Harness, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


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
