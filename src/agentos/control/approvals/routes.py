"""The HTTP door to approvals."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.agents.ports import SkillCatalogue
from agentos.control.approvals import service
from agentos.control.approvals.model import Approval
from agentos.control.privacy.routes import Sight, SightDep
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.errors import NotFound
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"])

Approver = Annotated[Caller, may(Permission.ANSWER_APPROVALS)]


async def skills(request: Request) -> SkillCatalogue:
    """The skills that are loaded; their schemas say which arguments are personal."""
    found: SkillCatalogue = request.app.state.skills
    return found


SkillsDep = Annotated[SkillCatalogue, Depends(skills)]


class Answered(BaseModel):
    """A person's answer."""

    model_config = ConfigDict(extra="forbid")
    note: str = Field("", max_length=2000)


@router.get("")
async def list_approvals(
    caller: Reader,
    doors: DoorsDep,
    skills: SkillsDep,
    sight: SightDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    status: str = "pending",
    run: str = "",
) -> dict[str, Any]:
    """Approvals, oldest first; those that wait unless ``status`` says otherwise (``all`` for every one)."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work, status="" if status == "all" else status, run_id=run, after=position_of(cursor), most=limit + 1
        )
    return page([await _seen(one, skills, sight) for one in found], limit)


@router.get("/{approval_id}")
async def show_approval(
    approval_id: str, caller: Reader, doors: DoorsDep, skills: SkillsDep, sight: SightDep
) -> dict[str, Any]:
    """One approval with its arguments and its answers."""
    async with doors.open(caller.organization) as work:
        found = await service.get(work, approval_id)
        answers = await service.answers(work, approval_id)
    return await _seen(found, skills, sight) | {"answers": answers}


@router.post("/{approval_id}/approve")
async def approve(approval_id: str, body: Answered, caller: Approver, doors: DoorsDep) -> dict[str, Any]:
    """Say yes to just these arguments."""
    return await _answer(approval_id, body, caller, doors, approved=True)


@router.post("/{approval_id}/deny")
async def deny(approval_id: str, body: Answered, caller: Approver, doors: DoorsDep) -> dict[str, Any]:
    """Say no."""
    return await _answer(approval_id, body, caller, doors, approved=False)


async def _answer(
    approval_id: str, body: Answered, caller: Caller, doors: DoorsDep, *, approved: bool
) -> dict[str, Any]:
    assert caller.person_id is not None, "no machine has this permission"
    async with doors.open(caller.organization) as work:
        return shown(
            await service.answer(
                work,
                approval_id,
                person_id=caller.person_id,
                handle=caller.handle,
                approved=approved,
                note=body.note,
                at=now(),
            )
        )


async def _seen(one: Approval, skills: SkillCatalogue, sight: Sight) -> dict[str, Any]:
    """An approval as this caller may see it; ``redacted`` says that its arguments are not shown as they are."""
    document = shown(one)
    if sight.masks:
        try:
            schema = skills.resolve(one.skill, one.skill_version).input_schema
        except NotFound:  # this process has not loaded it
            schema = {}
        arguments = await sight.of(document["arguments"], schema)
        document |= {"arguments": arguments, "redacted": arguments != document["arguments"]}
    return document


def shown(one: Approval) -> dict[str, Any]:
    """An approval as the API shows it."""
    return {
        "id": one.id,
        "run_id": one.run_id,
        "step": one.step,
        "skill": one.skill,
        "skill_version": one.skill_version,
        "effect": one.effect.name,
        "arguments": json.loads(one.arguments),
        "arguments_digest": one.arguments_digest,
        "requested_by": one.requested_by,
        "needed": one.needed,
        "level": one.level,
        "status": one.status.value,
        "asked_at": one.asked_at,
        "expires_at": one.expires_at,
        "decided_at": one.decided_at,
        "consumed_at": one.consumed_at,
    }
