"""The HTTP door to models: which there are, and which would serve a step."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.errors import Unavailable
from agentos.kernel.http import DoorsDep
from agentos.runtime.inference import service
from agentos.runtime.inference.ports import Checked
from agentos.runtime.inference.router import Router

router = APIRouter(prefix="/api/v1/models", tags=["models"])


async def _router(request: Request) -> Router:
    found: Router = request.app.state.router
    return found


async def _models(request: Request) -> Checked:
    found: Checked = request.app.state.models
    return found


RouterDep = Annotated[Router, Depends(_router)]
ModelsDep = Annotated[Checked, Depends(_models)]


@router.get("")
async def list_models(caller: Reader, doors: DoorsDep, asks: RouterDep, known: ModelsDep) -> dict[str, Any]:
    """Every provider, and every model that a serving version of the organization names."""
    try:
        seen = [] if asks.watch.board is None else await asks.watch.board.every()
    except Unavailable:
        seen = []
    async with doors.open(caller.organization) as work:
        items = await service.models(work, known.listing(), seen, at=now())
    providers = [
        {"name": one.name, "configured": one.configured, "local": one.local, "instant": one.instant}
        for one in known.listing()
    ]
    return {"providers": providers, "items": items}


@router.get("/route/{deployment_id}")
async def explain_route(
    deployment_id: str,
    caller: Reader,
    doors: DoorsDep,
    asks: RouterDep,
    task: Annotated[str, Query(max_length=100, description="The label of the task.")] = "",
    private: Annotated[bool, Query(description="As if the run's input said so.")] = False,
    tokens: Annotated[int, Query(ge=0, le=10**9, description="About how long the question is.")] = 1000,
) -> dict[str, Any]:
    """Which models would be asked for a step of the deployment's agent now, in which order, and why."""
    async with doors.open(caller.organization) as work:
        return await service.explain(work, asks, deployment_id, task=task, private=private, tokens=tokens, at=now())
