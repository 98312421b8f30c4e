"""Looks at drift, kept for its gauge. Where drift is unknown the gauge is absent."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from agentos.evidence.quality import service, store
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.model import Scope
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import UnitOfWork

EVERY: Final = timedelta(minutes=5)  # a look at the busiest scope takes 0.3 s: 40,000 runs seen, 4,000 of them read
STALE: Final = 3 * EVERY  # a look longer ago than this is no measurement of now


async def scopes(database: Database, *, at: datetime) -> list[tuple[OrgId, Scope, str]]:
    """The roles and deployments that have runs to look at, in every organization. Raises DatabaseUnavailable."""
    return await store.scopes(database, at - service.WINDOW - service.BASELINE)


async def look(work: UnitOfWork, scope: Scope, target: str, *, at: datetime) -> Drift | None:
    """Measure the drift of a role or a deployment and keep it for the gauge; None where somebody looked lately."""
    if await store.looked(work, scope, target, at - EVERY):
        return None
    found = await service.drift(work, scope, target, at=at)
    await store.look(work, scope, target, found.score, at)
    return found


async def drifts(database: Database, *, at: datetime) -> list[dict[str, Any]]:
    """What drift is, by organization, scope and target, where that is known. Raises DatabaseUnavailable."""
    return await store.drifts(database, at - STALE)
