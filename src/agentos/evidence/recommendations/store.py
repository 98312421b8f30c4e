"""Recommendations in the database."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.quality.model import Scope
from agentos.evidence.recommendations.model import Kind, Recommendation, Standing
from agentos.kernel.ids import RecommendationId
from agentos.kernel.unit_of_work import UnitOfWork

_RECOMMENDATION: Final = (
    "SELECT id, kind, scope, target, text, evidence, standing, opened_at, changed_by, changed_at, reason "
    "FROM quality_recommendations "
)
_RECOMMENDATIONS: Final = text(
    f"{_RECOMMENDATION} WHERE (:standing = '' OR standing = :standing) "
    "AND (:before = '' OR id < :before) ORDER BY id DESC LIMIT :most"
)
_LOCK_RECOMMENDATION: Final = text(f"{_RECOMMENDATION} WHERE id = :id FOR UPDATE")
# One that was dismissed is not brought up again for a while, as nothing would have changed.
_RECOMMEND: Final = text(
    "INSERT INTO quality_recommendations (org, id, kind, scope, target, text, evidence, standing, opened_at) "
    "SELECT CAST(:org AS text), :id, CAST(:kind AS text), CAST(:scope AS text), CAST(:target AS text), :text, "
    "CAST(:evidence AS jsonb), 'open', CAST(:at AS timestamptz) WHERE NOT EXISTS "
    "(SELECT FROM quality_recommendations WHERE kind = :kind AND scope = :scope AND target = :target "
    "AND (standing IN ('open', 'accepted') OR changed_at >= :quiet_since)) ON CONFLICT DO NOTHING"
)
_SETTLE: Final = text(
    "UPDATE quality_recommendations SET standing = :standing, reason = :reason, changed_by = :by, changed_at = :at "
    "WHERE id = :id"
)


async def recommend(work: UnitOfWork, one: Recommendation, quiet_since: datetime) -> bool:
    """Open a recommendation; False where one of its kind and scope is open, or was settled since."""
    values = {
        "id": one.id,
        "kind": one.kind.value,
        "scope": one.scope.value,
        "target": one.target,
        "text": one.text,
        "evidence": json.dumps(one.evidence),
        "at": one.opened_at,
        "quiet_since": quiet_since,
    }
    return bool(await work.run(_RECOMMEND, {"org": work.organization, **values}))


async def recommendations(work: UnitOfWork, standing: str, before: str, most: int) -> list[Recommendation]:
    """Recommendations, newest first."""
    values = {"standing": standing, "before": before, "most": most}
    return [_recommendation(row) for row in await work.all(_RECOMMENDATIONS, values)]


async def recommendation(work: UnitOfWork, recommendation_id: str) -> Recommendation | None:
    """One recommendation, locked until the unit of work ends."""
    row = await work.first(_LOCK_RECOMMENDATION, {"id": recommendation_id})
    return _recommendation(row) if row else None


async def settle(
    work: UnitOfWork, recommendation_id: str, standing: Standing, reason: str, by: str, at: datetime
) -> None:
    """Say where a recommendation that is locked stands now."""
    values = {"id": recommendation_id, "standing": standing.value, "reason": reason, "by": by, "at": at}
    await work.run(_SETTLE, values)


def _recommendation(row: Row[Any]) -> Recommendation:
    named = {"kind": Kind(row.kind), "scope": Scope(row.scope), "standing": Standing(row.standing)}
    return Recommendation(**{**row._mapping, **named, "id": RecommendationId(row.id)})
