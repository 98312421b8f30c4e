"""The HTTP door to models: which there are, whether one answers, and which would serve a step."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.errors import Unavailable
from agentos.kernel.http import DoorsDep
from agentos.runtime.inference import service
from agentos.runtime.inference.ports import Checked
from agentos.runtime.inference.router import Router

router = APIRouter(prefix="/api/v1/models", tags=["models"])

Tester = Annotated[Caller, may(Permission.TEST_MODELS)]


async def _router(request: Request) -> Router:
    found: Router = request.app.state.router
    return found


async def _models(request: Request) -> Checked:
    found: Checked = request.app.state.models
    return found


RouterDep = Annotated[Router, Depends(_router)]
ModelsDep = Annotated[Checked, Depends(_models)]


class Test(BaseModel):
    """One word to one model."""

    model_config = ConfigDict(extra="forbid")
    provider: str = Field(min_length=1, max_length=64)
    model: str = Field(max_length=200, description="Its name, as in spec.model.name.")
    text: str = Field("ping", min_length=1, max_length=1000, description="What it is told.")


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


@router.post("/test")
async def test_model(body: Test, caller: Tester, doors: DoorsDep, asks: RouterDep, known: ModelsDep) -> dict[str, Any]:
    """Ask a model one word, for at most 16 tokens of answer, and tell what came of it. It counts in no budget."""
    if body.provider != "stub":
        known.check({"provider": body.provider, "name": body.model})
    async with doors.open(caller.organization) as work:
        question, denied, prices = await service.test(work, asks, body.provider, body.model, body.text)
    return await service.ask_a_word(asks, body.provider, question, denied, prices, at=now())
