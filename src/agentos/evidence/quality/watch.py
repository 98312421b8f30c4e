"""Drift is looked at every few minutes, for its gauge, and what the figures advise is recommended.

Every worker looks, one at a time at each scope; a scope that another looked at lately is left to it. Where drift is
unknown the gauge is absent.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentos.evidence.quality import advice, service, store
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.model import (
    Recommendation,
    RecommendationOpened,
    RecommendationOver,
    RecommendationSettled,
    RecommendationUnknown,
    Scope,
    Standing,
)
from agentos.kernel import clock, ids
from agentos.kernel.database import Database
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import RecommendationId
from agentos.kernel.unit_of_work import Doors, UnitOfWork

log = structlog.get_logger(__name__)

EVERY: Final = timedelta(minutes=5)  # a look reads 4,000 runs of a busy scope, 50 ms
STALE: Final = 3 * EVERY  # a look longer ago than this is no measurement of now
QUIET: Final = timedelta(days=7)  # after somebody settled a recommendation the same one is not made again
ADVISED: Final = timedelta(days=7)  # what rules look at: enough for the few runs that people judge


async def look(work: UnitOfWork, scope: Scope, target: str, *, at: datetime) -> Drift:
    """Measure the drift of a role or a deployment, and keep it for the gauge."""
    found = await service.drift(work, scope, target, at=at)
    await store.look(work, scope, target, found.score, at)
    return found


async def recommend(
    work: UnitOfWork, scope: Scope, target: str, *, at: datetime, drift: Drift | None = None
) -> list[Recommendation]:
    """Open what the figures of a scope recommend; of each kind at most one is open. What was opened.

    Raises ScopeInvalid or MalformedId (Invalid), DeploymentUnknown (NotFound).
    """
    drift = drift or await service.drift(work, scope, target, at=at)
    runs = await service.of_scope(work, scope, target, since=at - ADVISED, until=at)
    opened = []
    for one in advice.advise(runs, drift):
        made = Recommendation(
            RecommendationId(ids.new("rec")), one.kind, scope, target, one.text, one.evidence, Standing.OPEN, at
        )
        if await store.recommend(work, made, at - QUIET):
            await work.publish(RecommendationOpened(made.id, made.kind, scope, target))
            opened.append(made)
    return opened


async def look_everywhere(doors: Doors, *, at: datetime) -> int:
    """Look at every role and deployment that nobody has looked at lately; how many. Raises DatabaseUnavailable.

    One that cannot be looked at keeps no other from it.
    """
    looked = 0
    for organization, scope, target in await store.scopes(doors.database, at - service.WINDOW - service.BASELINE):
        try:
            async with doors.open(organization) as work:
                if await store.looked(work, scope, target, at - EVERY):
                    continue
                await recommend(work, scope, target, at=at, drift=await look(work, scope, target, at=at))
        except Unavailable:
            raise
        except Exception as error:  # the next look tries it again
            log.exception("drift_not_looked_at", org=organization, scope=scope, error=type(error).__name__)
            continue
        looked += 1
    return looked


async def look_for_ever(doors: Doors, stop: asyncio.Event) -> None:
    """Look every five minutes until ``stop``; an outage is waited out."""
    while not stop.is_set():
        try:
            await look_everywhere(doors, at=clock.now())
        except Exception as error:  # it outlives every outage; the next look measures what is then
            log.warning("drift_not_looked_at", error=type(error).__name__)
        try:
            await asyncio.wait_for(stop.wait(), EVERY.total_seconds())
        except TimeoutError:
            continue


async def drifts(database: Database, *, at: datetime) -> list[dict[str, Any]]:
    """What drift is, by organization, scope and target, where that is known. Raises DatabaseUnavailable."""
    return await store.drifts(database, at - STALE)


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
