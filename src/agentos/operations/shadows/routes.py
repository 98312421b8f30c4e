"""The HTTP door to shadows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.deployments.routes import Deployer
from agentos.intake.identity.model import NotAllowed, Permission
from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of
from agentos.operations.rollouts.model import shown
from agentos.operations.shadows import service
from agentos.operations.shadows.model import Shadow, Shown

router = APIRouter(prefix="/api/v1/agents/deployments/{deployment_id}/shadow", tags=["rollouts"])

UNKNOWN = "unknown"


class NewShadow(BaseModel):
    """A version that is shown runs."""

    model_config = ConfigDict(extra="forbid")

    version: Annotated[str, Field(max_length=80, description="Number, hash or its beginning.")]
    percent: int = Field(ge=1, le=100, description="Of the runs that end.")
    live: bool = Field(
        False, description="Let live models be asked, at the organization's cost. Takes leave to start runs."
    )


@router.post("")
async def start_shadow(deployment_id: str, body: NewShadow, caller: Deployer, doors: DoorsDep) -> dict[str, Any]:
    """Show a version a share of the inputs of runs that end from now on, without effects."""
    if body.live and Permission.START_RUNS not in caller.permissions:
        raise NotAllowed("asking live models takes the permission to start runs", then="Do it without 'live'.")
    async with doors.open(caller.organization) as work:
        how: dict[str, Any] = {"live": body.live, "by": caller.handle, "at": now()}
        await service.start(work, deployment_id, body.version, body.percent, **how)
        return _shadow(*await service.shadow(work, deployment_id))


@router.get("")
async def show_shadow(deployment_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """The shadow, and what the runs that it was shown would have come to, counted."""
    async with doors.open(caller.organization) as work:
        return _shadow(*await service.shadow(work, deployment_id))


@router.get("/runs")
async def list_shadow_runs(
    deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """What each run would have come to under the shadow, newest first."""
    async with doors.open(caller.organization) as work:
        rows = await service.shadow_runs(work, deployment_id, before=position_of(cursor), most=limit + 1)
    return page([_shadow_run(one) for one in rows], limit, by="run_id")


@router.delete("")
async def end_shadow(deployment_id: str, caller: Deployer, doors: DoorsDep) -> dict[str, Any]:
    """Show the shadow nothing more; what came of it stays."""
    async with doors.open(caller.organization) as work:
        await service.end(work, deployment_id, by=caller.handle, at=now())
        return _shadow(*await service.shadow(work, deployment_id))


def _shadow(one: Shadow, came_to: Shown) -> dict[str, Any]:
    counts = asdict(came_to)
    del counts["spread"]
    more = UNKNOWN if came_to.micros_more is None else came_to.micros_more
    figures = {name: shown(figure) for name, figure in came_to.figures.items()}
    counts |= {"unknown": came_to.runs - came_to.known, "micros_more": more, "figures": figures}
    return asdict(one) | {"came_to": counts}


def _shadow_run(one: dict[str, Any]) -> dict[str, Any]:
    changed, more = one.pop("changed"), one.pop("micros_more")
    outcome = {None: UNKNOWN, True: "changed", False: "same"}[changed]
    return one | {"outcome": outcome, "micros_more": UNKNOWN if more is None else more}
