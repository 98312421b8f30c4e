"""Runs as figures see them: made up, or scored on a real database and copied."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import Feedback
from agentos.evidence.quality.scorer import Scorer
from agentos.kernel.clock import now
from agentos.kernel.outbox import Delivery, Position
from agentos.runtime.runs.model import RunEnded
from tests.runtime.runs.harness import Harness

AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def scored(
    *,
    ok: bool = True,
    seconds: float = 1.0,
    score: float | None = 1.0,
    confidence: float | None = 0.9,
    version: str = "v1",
    feedback: Feedback | None = None,
    parts: dict[str, float] | None = None,
    **features: Any,
) -> Scored:
    """A run that went well unless told otherwise."""
    usual = {
        "calls": {"look": [1, 1]},
        "reads": 1,
        "tools": ["look"],
        "models": ["stub:script"],
        "skills": "sha256:skills",
        "policies": ["sha256:policy"],
        "source": "manual",
        "input_shape": "sha256:input",
        "input_bytes": 100,
        "output_shape": "sha256:output",
        "output_bytes": 50,
        "micros": 1000,
        "tokens": 10,
    }
    return Scored(
        run_id="run_1",
        deployment_id="dep_1",
        agent_id="tester",
        category="tests",
        version=version,
        status="completed" if ok else "failed",
        ended_at=AT,
        seconds=seconds,
        score=score,
        confidence=confidence,
        parts=parts or {},
        features=usual | features,
        feedback=feedback,
    )


async def over(held: Harness) -> str:
    """A run that is over and that the consumer has scored."""
    run = await held.finish(await held.start())
    fact = RunEnded(run.id, run.deployment_id, run.agent_id, run.version, run.status, "")
    await Scorer(held.doors).consumer().handle([Delivery(Position(0, 0), held.organization, fact, now())])
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
