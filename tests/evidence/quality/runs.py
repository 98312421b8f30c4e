"""Runs as figures see them, made up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import Feedback

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
