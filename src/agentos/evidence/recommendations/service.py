"""Recommend what the figures of a scope advise, and settle it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from agentos.evidence.quality import service as quality
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.model import Scope
from agentos.evidence.recommendations import rules, store
from agentos.evidence.recommendations.model import (
    Recommendation,
    RecommendationOpened,
    RecommendationOver,
    RecommendationSettled,
    RecommendationUnknown,
    Standing,
)
from agentos.kernel import ids
from agentos.kernel.ids import RecommendationId
from agentos.kernel.unit_of_work import UnitOfWork

QUIET: Final = timedelta(days=7)  # after somebody settled a recommendation the same one is not made again
ADVISED: Final = timedelta(days=7)  # what rules look at: enough for the few runs that people judge


async def recommend(
    work: UnitOfWork, scope: Scope, target: str, *, at: datetime, drift: Drift | None = None
) -> list[Recommendation]:
    """Open what the figures of a scope recommend; of each kind at most one is open. What was opened.

    Raises ScopeInvalid or MalformedId (Invalid), DeploymentUnknown (NotFound).
    """
    drift = drift or await quality.drift(work, scope, target, at=at)
    runs = await quality.of_scope(work, scope, target, since=at - ADVISED, until=at)
    opened = []
    for one in rules.advise(runs, drift):
        made = Recommendation(
            RecommendationId(ids.new("rec")), one.kind, scope, target, one.text, one.evidence, Standing.OPEN, at
        )
        if await store.recommend(work, made, at - QUIET):
            await work.publish(RecommendationOpened(made.id, made.kind, scope, target))
            opened.append(made)
    return opened


async def list_recommendations(
    work: UnitOfWork, *, standing: Standing | None = None, before: str = "", most: int = 200
) -> list[Recommendation]:
    """Recommendations, newest first."""
    return await store.recommendations(work, standing.value if standing else "", before, most)


async def settle(
    work: UnitOfWork, recommendation_id: str, standing: Standing, *, reason: str, by: str, at: datetime
) -> Recommendation:
    """Accept, dismiss or resolve a recommendation.

    Raises RecommendationUnknown (NotFound), RecommendationOver (Conflict).
    """
    found = await store.recommendation(work, recommendation_id)
    if found is None:
        raise RecommendationUnknown(
            f"no recommendation '{recommendation_id[:64]}'", then="See 'agentos quality recommendations'."
        )
    if not found.standing.may_become(standing):
        raise RecommendationOver(
            f"a recommendation that is {found.standing} cannot become {standing}",
            where=found.id,
            then="An open one is accepted, dismissed or resolved, an accepted one dismissed or resolved.",
        )
    await store.settle(work, found.id, standing, reason, by, at)
    await work.publish(RecommendationSettled(found.id, found.kind, found.scope, found.target, standing, by))
    settled = await store.recommendation(work, found.id)
    assert settled is not None
    return settled
