"""The HTTP door to recommendations."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from agentos.evidence.quality.model import Scope
from agentos.evidence.recommendations import service
from agentos.evidence.recommendations.model import Recommendation, Standing
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1/agents/quality/recommendations", tags=["quality"])

Judge = Annotated[Caller, may(Permission.GIVE_FEEDBACK)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Look(_Body):
    """Where to look for something to recommend."""

    scope: Scope = Scope.ORGANIZATION
    target: str = Field("", max_length=63)


class Settle(_Body):
    """What becomes of a recommendation, and why."""

    standing: Standing
    reason: Annotated[str, Field(min_length=1, max_length=2000)]


@router.get("")
async def list_recommendations(
    caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "", standing: Standing | None = None
) -> dict[str, Any]:
    """What the figures recommend, newest first, with the figures."""
    async with doors.open(caller.organization) as work:
        found = await service.list_recommendations(work, standing=standing, before=position_of(cursor), most=limit + 1)
    return page([_recommendation(one) for one in found], limit)


@router.post("")
async def look_for_recommendations(body: Look, caller: Judge, doors: DoorsDep) -> dict[str, Any]:
    """Look at a scope now, and open what its figures recommend; what was opened."""
    async with doors.open(caller.organization) as work:
        opened = await service.recommend(work, body.scope, body.target, at=now())
    return {"items": [_recommendation(one) for one in opened]}


@router.post("/{recommendation_id}")
async def settle_recommendation(recommendation_id: str, body: Settle, caller: Judge, doors: DoorsDep) -> dict[str, Any]:
    """Accept, dismiss or resolve a recommendation."""
    async with doors.open(caller.organization) as work:
        one = await service.settle(
            work, recommendation_id, body.standing, reason=body.reason, by=caller.handle, at=now()
        )
    return _recommendation(one)


def _recommendation(one: Recommendation) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "scope": one.scope,
        "target": one.target,
        "text": one.text,
        "evidence": one.evidence,
        "standing": one.standing,
        "opened_at": one.opened_at,
        "changed_by": one.changed_by or None,
        "changed_at": one.changed_at,
        "reason": one.reason,
    }
