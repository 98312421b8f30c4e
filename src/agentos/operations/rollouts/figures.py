"""The runs that figures of a rollout are made of, and figures in words."""

from __future__ import annotations

from datetime import datetime

from agentos.evidence.quality import service as quality
from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import Figure
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import store


async def runs_of(
    work: UnitOfWork, deployment_id: str, revision: int, version: str, *, since: datetime, until: datetime
) -> list[Scored]:
    """The runs that ended within a time of those that were admitted on a revision, newest first.

    Not those of the same version that were admitted on another: they were under way before.
    """
    found = await quality.runs_of(work, deployment_id, version, since=since, until=until)
    own = await store.of_revision(work, [run.run_id for run in found], revision)
    return [run for run in found if run.run_id in own]


def in_words(found: Figure) -> str:
    """A figure in words."""
    if found.value is None:
        return "unknown (no samples)"
    ends = [f"{end:.3g}" if end is not None else "unknown" for end in (found.low, found.high)]
    return f"{found.value:.3g} ({' to '.join(ends)}, {found.samples} samples)"
