"""Runs are scored as they end, and people's words count."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from agentos.evidence.quality import scores, store
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    Feedback,
    RunNotScored,
    RunStillOpen,
)
from agentos.evidence.quality.scorer import KEPT, Scorer
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import Delivery, Position
from agentos.kernel.retention import forget
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.model import DraftDiscarded, DraftUnknown, RunEnded, RunUnknown
from tests.evidence.quality.runs import over
from tests.runtime.runs.harness import DONE, Harness, answered, calls, harness


@pytest.fixture
def held(database: Database, organization: OrgId) -> Harness:
    return harness(database, organization)


async def test_a_run_is_scored_when_it_ends_and_says_which_parts_are_unknown(held: Harness) -> None:
    await held.agent([calls(("look", 1)), DONE])
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        found = await scores.show(work, run)
    assert (found.status, found.counted, found.score) == ("completed", True, 1.0)
    assert found.parts == {"completed": 1.0, "calls": 1.0, "retries": 1.0}
    assert found.features["tools"] == ["look"]
    assert found.features["reads"] == 1


async def test_a_run_with_a_denied_call_scores_less(held: Harness) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L0")
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        found = await scores.show(work, run)
    assert found.parts["calls"] == 0.0
    assert found.score == pytest.approx(5 / 7)


async def test_a_run_that_is_not_over_has_no_score_and_takes_no_word(held: Harness) -> None:
    await held.agent([DONE])
    run = await held.start()
    async with held.doors.open(held.organization) as work:
        with pytest.raises(RunNotScored):
            await scores.show(work, run)
        with pytest.raises(RunUnknown):
            await scores.show(work, "run_unknown")
        with pytest.raises(RunStillOpen):
            await scores.say(work, run_id=run, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        with pytest.raises(RunUnknown):
            await scores.say(work, run_id="run_unknown", verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        with pytest.raises(DraftUnknown):
            await scores.say(work, draft_id="draft_unknown", verdict=Feedback.ACCEPTED, note="", by="ana", at=now())


async def test_the_last_word_on_a_run_counts_and_leaves_its_confidence_alone(held: Harness) -> None:
    await held.agent([DONE])
    run = await over(held)
    for verdict, score in ((Feedback.REJECTED, 5 / 9), (Feedback.EDITED, 7.8 / 9)):
        async with held.doors.open(held.organization) as work:
            before = (await scores.show(work, run)).confidence
            await scores.say(work, run_id=run, verdict=verdict, note="why", by="ana", at=now())
        async with held.doors.open(held.organization) as work:
            found = await scores.show(work, run)
        assert found.score == pytest.approx(score)
        assert found.feedback == verdict
        assert found.confidence == before == 1.0
    async with held.doors.open(held.organization) as work:
        said = await scores.list_feedback(work, run_id=run)
    assert [(one.verdict, one.note, one.said_by) for one in said] == [
        (Feedback.EDITED, "why", "ana"),
        (Feedback.REJECTED, "why", "ana"),
    ]


async def test_confidence_is_kept_with_its_parts_as_they_were_before_anybody_judged_the_run(held: Harness) -> None:
    await held.agent([DONE])
    first, second = await over(held), await over(held)
    async with held.doors.open(held.organization) as work:
        assert (await scores.show(work, first)).grounds == {"mean": 1.0, "judged": 0, "accepted": 0}
        await scores.say(work, run_id=first, verdict=Feedback.REJECTED, note="", by="ana", at=now())
    third = await over(held)
    async with held.doors.open(held.organization) as work:
        assert (await scores.show(work, first)).grounds == {"mean": 1.0, "judged": 0, "accepted": 0}
        assert (await scores.show(work, third)).grounds == {"mean": 1.0, "judged": 1, "accepted": 0}
        assert (await scores.show(work, third)).confidence == pytest.approx(10 / 11)
        await scores.say(work, run_id=second, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        await scores.say(work, run_id=third, verdict=Feedback.ACCEPTED, note="", by="ana", at=now())
        assert (await scores.show(work, third)).grounds == {"mean": 1.0, "judged": 1, "accepted": 0}


async def test_scores_and_words_are_forgotten_in_time_and_what_figures_can_read_is_not(
    held: Harness, database: Database
) -> None:
    await held.agent([DONE])
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        await scores.say(work, run_id=run, verdict=Feedback.EDITED, note="", by="ana", at=now())
    assert KEPT.kept > 2 * LONGEST_LOOKBACK
    await forget(database, KEPT, at=now() + KEPT.kept - timedelta(minutes=5))
    async with held.doors.open(held.organization) as work:
        assert (await scores.show(work, run)).feedback == Feedback.EDITED
    assert await forget(database, KEPT, at=now() + KEPT.kept + timedelta(minutes=5)) > 0
    async with held.doors.open(held.organization) as work:
        assert await scores.list_feedback(work, run_id=run) == []
        with pytest.raises(RunNotScored, match="completed") as refused:
            await scores.show(work, run)
    assert "forgotten after 400 days" in refused.value.then


async def test_a_word_that_is_said_while_the_run_is_being_scored_counts(
    held: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await held.agent([DONE])
    run = await held.finish(await held.start())
    judged, saying = store.judged, list[asyncio.Task[None]]()

    async def say() -> None:
        async with held.doors.open(held.organization) as work:
            await scores.say(work, run_id=run.id, verdict=Feedback.REJECTED, note="", by="ana", at=now())

    async def meanwhile(*given: Any) -> tuple[int, int]:  # between what is read of the run and what is kept of it
        if not saying:
            saying.append(asyncio.create_task(say()))
            await asyncio.wait(saying, timeout=0.3)
        return await judged(*given)

    monkeypatch.setattr(store, "judged", meanwhile)
    fact = RunEnded(run.id, run.deployment_id, run.agent_id, run.version, run.status, "")
    await Scorer(held.doors).consumer().handle([Delivery(Position(0, 0), held.organization, fact, now())])
    await saying[0]
    async with held.doors.open(held.organization) as work:
        assert (await scores.show(work, run.id)).feedback == Feedback.REJECTED


async def test_a_word_on_a_draft_counts_for_its_run(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], ["note"], tier="L1")
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        row = await work.first(text("SELECT id FROM drafts WHERE run_id = :run"), {"run": run})
        assert row is not None
        said = await scores.say(work, draft_id=row.id, verdict=Feedback.NEEDS_REVIEW, note="", by="ana", at=now())
        assert said.run_id == run
        assert (await scores.show(work, run)).parts["feedback"] == 0.3


async def test_a_draft_that_is_discarded_counts_as_one_that_is_submitted_does(held: Harness) -> None:
    await held.agent([calls(("note", 1)), DONE], ["note"], tier="L1")
    run = await over(held)
    async with held.doors.open(held.organization) as work:
        assert "drafts" not in (await scores.show(work, run)).parts
        row = await work.first(text("SELECT id FROM drafts WHERE run_id = :run"), {"run": run})
        assert row is not None
        await runs.discard_draft(work, row.id, by="ana")
    consumer = Scorer(held.doors).consumer()
    fact = DraftDiscarded(run, row.id, "ana")
    assert isinstance(fact, consumer.facts)
    await consumer.handle([Delivery(Position(0, 0), held.organization, fact, now())])
    async with held.doors.open(held.organization) as work:
        assert (await scores.show(work, run)).parts["drafts"] == 0.0


@pytest.mark.parametrize(
    ("reason", "share"), [("superseded", 1.0), ("policy", 1.0), ("run_ended", 1.0), ("timeout", 0.5)]
)
async def test_a_question_that_fell_away_is_none_that_people_left_unanswered(
    held: Harness, reason: str, share: float
) -> None:
    await held.agent([calls(("pay", 1)), DONE], ["pay"], tier="L3")
    run_id = await held.start()
    await held.finish(run_id)
    await answered(held, run_id, approved=True)
    await held.finish(run_id, 3)
    another = text(
        "INSERT INTO approvals SELECT (jsonb_populate_record(a, jsonb_build_object('id', a.id || 'x', 'round', 2, "
        "'status', 'expired', 'reason', CAST(:reason AS text)))).* FROM approvals a WHERE a.run_id = :run"
    )
    async with held.doors.open(held.organization) as work:
        await work.run(another, {"reason": reason, "run": run_id})
        await scores.score(work, run_id, at=now())
        assert (await scores.show(work, run_id)).parts["approvals"] == share
