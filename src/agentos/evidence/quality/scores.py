"""Score runs, and keep what people say of them.

A run is counted in figures from the moment on that its end was scored, a fraction of a second after its commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row

from agentos.evidence.quality import scoring, store
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    Feedback,
    FeedbackGiven,
    RunNotScored,
    RunStillOpen,
    Said,
)
from agentos.kernel import ids
from agentos.kernel.ids import FeedbackId
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.model import DraftUnknown, RunUnknown

UNSCORED: Final = (
    "A run is scored a moment after its end. Runs from before quality was installed have no score, and scores are "
    "forgotten after 400 days."
)


async def hold(work: UnitOfWork, run_ids: Sequence[str]) -> None:
    """Hold runs that are to be scored: what is said of them meanwhile waits, and is not written over."""
    await store.lock_runs(work, run_ids)


async def score(work: UnitOfWork, run_id: str, *, at: datetime) -> None:
    """Keep the score and confidence of a run that ended. Doing it again changes only what became known since.

    Its figures are counted from the commit of this unit of work on. The caller holds the run.
    """
    found = await store.observed(work, run_id)
    if found is None:
        return
    row, run = found
    parts = scoring.parts(run)
    mean = scoring.unjudged(parts)
    grounds = None
    if mean is not None:
        since = row.ended_at - LONGEST_LOOKBACK
        judged, accepted = await store.judged(work, row.agent_id, run_id, mean, scoring.NEAR, since)
        grounds = scoring.Grounds(mean, judged, accepted)
    await store.put(
        work,
        {
            "run_id": run_id,
            "deployment_id": row.deployment_id,
            "agent_id": row.agent_id,
            "category": row.category,
            "version": row.version,
            "requested_by": row.requested_by,
            "status": row.status,
            "ended_at": row.ended_at,
            "counted": row.draft_id is None and row.status != "cancelled",
            "seconds": row.seconds,
            "score": scoring.score(parts),
            "unjudged": mean,
            "confidence": scoring.confidence(grounds),
            "grounds": None if grounds is None else asdict(grounds),
            "formula": scoring.FORMULA,
            "feedback": run.feedback,
            "parts": parts,
            "features": scoring.features(run),
            "at": at,
        },
    )


async def show(work: UnitOfWork, run_id: str) -> Row[Any]:
    """What is kept of a run's score. Raises RunUnknown or RunNotScored (NotFound)."""
    found = await store.scored(work, run_id)
    if found is None:
        run = await runs.get(work, run_id)
        raise RunNotScored(f"run '{run_id}' is {run.status}", then=UNSCORED)
    return found


async def say(
    work: UnitOfWork, *, run_id: str = "", draft_id: str = "", verdict: Feedback, note: str, by: str, at: datetime
) -> Said:
    """Keep what a person says of a run, or of a draft, and score the run anew. The last word on each counts.

    Raises RunUnknown or DraftUnknown (NotFound), RunStillOpen (Conflict).
    """
    if draft_id:
        of = await store.run_of_draft(work, draft_id)
        if of is None or (run_id and run_id != of):
            raise DraftUnknown(f"no draft '{draft_id[:64]}'", then="See 'agentos drafts list'.")
        run_id = of
    run = await store.lock_run(work, run_id)
    if run is None:
        raise RunUnknown(f"no run '{run_id[:64]}'", then="See 'agentos runs list'.")
    if run.ended_at is None and not draft_id:
        raise RunStillOpen(f"run '{run_id}' is not over", then="Wait for its end, or judge a draft of it.")
    one = Said(FeedbackId(ids.new("fbk")), run_id, draft_id, verdict, note, by, at)
    await store.say(work, one)
    await work.publish(FeedbackGiven(run_id, draft_id, verdict, by))
    await score(work, run_id, at=at)
    return one


async def list_feedback(
    work: UnitOfWork, *, run_id: str = "", verdict: Feedback | None = None, before: str = "", most: int = 200
) -> list[Said]:
    """What people said, newest first."""
    return await store.said(work, run_id, verdict.value if verdict else "", before, most)
