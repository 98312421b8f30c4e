"""The HTTP door to approvals, to the links that answer them, and to whom an organization asks."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.approvals import card, links, receipts, service
from agentos.control.approvals.answers import by_schema, hiding, measure
from agentos.control.approvals.model import MOST_NOTE, Approval, Channel, LinkForged
from agentos.control.approvals.ports import Schemas
from agentos.control.approvals.routing import (
    MOST_NAMED,
    MOST_NEEDED,
    MOST_RULES,
    MOST_RUNGS,
    MOST_STAGES,
    OnTimeout,
    Routing,
)
from agentos.control.privacy.routes import PrivacyDep, Sight, SightDep, look
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may, refused
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, Limit, SignerDep, page, position_of
from agentos.kernel.ids import KeyId
from agentos.kernel.openapi import lets_in
from agentos.kernel.telemetry import Meter

router = APIRouter(prefix="/api/v1/approvals", tags=["approvals"])

Approver = Annotated[Caller, may(Permission.ANSWER_APPROVALS)]
Rerouter = Annotated[Caller, may(Permission.REROUTE_APPROVALS)]
Router = Annotated[Caller, may(Permission.CHANGE_ROUTING)]

NO_NUL: Final = r"^[^\x00]*$"  # PostgreSQL's text has no room for it
Note = Annotated[str, Field(max_length=MOST_NOTE, pattern=NO_NUL)]
Named = Annotated[str, Field(min_length=1, max_length=80, pattern=r"^(role:)?[a-z][a-z0-9_-]*$")]
Pattern = Annotated[str, Field(min_length=1, max_length=100, pattern=NO_NUL)]
EffectName = Literal["S0", "S1", "S2", "S3", "S4"]
Length = Annotated[str, Field(max_length=40)]
Id = Annotated[str, Query(max_length=80)]
Token = Annotated[str, Path(max_length=links.MOST_TOKEN)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Answered(_Body):
    """A person's answer."""

    note: Note = ""


class AnsweredByLink(_Body):
    """A person's answer by a link."""

    approved: bool
    note: Note = ""


class Reroute(_Body):
    """What is handed over, and to whom."""

    approval: str = Field("", max_length=80, description="Just this one.")
    deployment: str = Field("", max_length=80, description="Or what waits of this deployment; else everything.")
    to: list[Named] = Field(default_factory=list, max_length=MOST_NAMED, description="Nobody: the backups.")


class WantedStage(_Body):
    """A step of a chain."""

    approvers: list[Named] = Field(default_factory=list, max_length=MOST_NAMED, description="Nobody: anybody who may.")
    needed: int = Field(1, ge=1, le=MOST_NEEDED)


class WantedRule(_Body):
    """Whom to ask about calls of this kind. What is empty matches everything."""

    effects: list[EffectName] = Field(default_factory=list, max_length=5)
    skills: list[Pattern] = Field(default_factory=list, max_length=50, description="Names or globs.")
    categories: list[Pattern] = Field(default_factory=list, max_length=50)
    agents: list[Pattern] = Field(default_factory=list, max_length=50)
    stages: list[WantedStage] = Field(min_length=1, max_length=MOST_STAGES)


class WantedRouting(_Body):
    """Whom to ask, and by when. What is left out keeps its default."""

    rules: list[WantedRule] = Field(default_factory=list, max_length=MOST_RULES, description="The first match holds.")
    ladder: list[Annotated[list[Named], Field(max_length=MOST_NAMED)]] | None = Field(
        None, max_length=MOST_RUNGS, description="Who may answer besides, level by level; first the backups."
    )
    after: dict[EffectName, Length | None] = Field(default_factory=dict, description="The time of each level, as 1h.")
    legal_after: Length | None = Field(None, description="Of S3 where the category is legal, as 30m.")
    legal_categories: list[Pattern] = Field(default_factory=lambda: ["legal"], max_length=50)
    on_timeout: dict[EffectName, OnTimeout] = Field(default_factory=dict)


async def schemas(request: Request) -> Schemas:
    """The schemas of the skills that are loaded; they say which arguments are personal."""
    found: Schemas = request.app.state.parts.registry
    return found


def meter(request: Request) -> Meter:
    """What this process measures on."""
    found: Meter = request.app.state.parts.meter
    return found


SchemasDep = Annotated[Schemas, Depends(schemas)]
MeterDep = Annotated[Meter, Depends(meter)]


@router.get("")
async def list_approvals(
    caller: Reader,
    doors: DoorsDep,
    schemas: SchemasDep,
    sight: SightDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    status: Annotated[str, Query(max_length=20)] = "pending",
    run: Id = "",
    deployment: Id = "",
) -> dict[str, Any]:
    """Approvals, oldest first; those that wait unless ``status`` says otherwise (``all`` for every one)."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work,
            status="" if status == "all" else status,
            run_id=run,
            deployment_id=deployment,
            after=position_of(cursor),
            most=limit + 1,
        )
    return page([await _seen(one, schemas, sight) for one in found], limit)


@router.get("/routing")
async def show_routing(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """Whom the organization asks, and by when."""
    async with doors.open(caller.organization) as work:
        found, by, at = await service.routing(work)
    return found.document() | {"changed_by": by or None, "changed_at": at}


@router.put("/routing")
async def set_routing(body: WantedRouting, caller: Router, doors: DoorsDep) -> dict[str, Any]:
    """Say whom the organization asks. Open approvals keep their plan; the next effect is decided under the new one."""
    wanted = Routing.read(body.model_dump(mode="json"))
    async with doors.open(caller.organization) as work:
        await service.set_routing(work, wanted, by=caller.handle, at=now())
    return wanted.document()


@router.post("/reroute")
async def reroute(
    body: Reroute, caller: Rerouter, doors: DoorsDep, schemas: SchemasDep, sight: SightDep
) -> dict[str, Any]:
    """Hand what waits to the backups or to named people, who may answer besides from now on."""
    async with doors.open(caller.organization) as work:
        found = await service.reroute(
            work, approval_id=body.approval, deployment_id=body.deployment, to=body.to, by=caller.handle, at=now()
        )
    return {"rerouted": len(found), "items": [await _seen(one, schemas, sight) for one in found]}


@router.get("/links/{token}", openapi_extra=lets_in(403, 404, 409, 429, 503))
async def show_link(
    token: Token, request: Request, signer: SignerDep, doors: DoorsDep, privacy: PrivacyDep, schemas: SchemasDep
) -> dict[str, Any]:
    """What a link is about, while it waits and its person may answer. Looking decides nothing."""
    link = await _link(token, request, signer)
    async with doors.open(link.organization) as work:
        found, person = await links.look(work, link, at=now())
        told = await card.card(work, found.id)
    caller = Caller(link.organization, person.id, person.handle, KeyId(""), person.role.permissions)
    sight = await look(caller, doors, privacy)
    return await _seen(found, schemas, sight) | {"card": await sight.of(told), "answering_as": link.handle}


@router.post("/links/{token}", openapi_extra=lets_in(403, 429, 503))
async def answer_link(
    token: Token,
    body: AnsweredByLink,
    request: Request,
    signer: SignerDep,
    doors: DoorsDep,
    privacy: PrivacyDep,
    schemas: SchemasDep,
    meter: MeterDep,
) -> dict[str, Any]:
    """Answer with a link, which works once."""
    link = await _link(token, request, signer)
    async with doors.open(link.organization) as work:
        hides = await hiding(work, privacy, schemas)
        answered = await links.answer(work, link, approved=body.approved, note=body.note, at=now(), hides=hides)
    measure(meter, link.organization, answered)
    return shown(answered)


@router.get("/{approval_id}")
async def show_approval(
    approval_id: str, caller: Reader, doors: DoorsDep, schemas: SchemasDep, sight: SightDep
) -> dict[str, Any]:
    """One approval with its card: who asks, what exactly will happen, how far it reaches, what was said before."""
    async with doors.open(caller.organization) as work:
        found = await service.get(work, approval_id)
        told = await card.card(work, approval_id)
    return await _seen(found, schemas, sight) | told


@router.get("/{approval_id}/receipt", openapi_extra=lets_in(409))
async def show_receipt(approval_id: str, caller: Reader, doors: DoorsDep, signer: SignerDep) -> dict[str, Any]:
    """The signed receipt of a decision; it is checked offline with ``agentos approvals verify``."""
    async with doors.open(caller.organization) as work:
        found, answers = await service.get(work, approval_id), await service.answers(work, approval_id)
    return receipts.receipt(signer, caller.organization, found, answers)


@router.post("/{approval_id}/approve")
async def approve(
    approval_id: str,
    body: Answered,
    caller: Approver,
    doors: DoorsDep,
    schemas: SchemasDep,
    sight: SightDep,
    meter: MeterDep,
) -> dict[str, Any]:
    """Say yes to just these arguments."""
    return await _answer(approval_id, body, caller, doors, schemas, sight, meter, approved=True)


@router.post("/{approval_id}/deny")
async def deny(
    approval_id: str,
    body: Answered,
    caller: Approver,
    doors: DoorsDep,
    schemas: SchemasDep,
    sight: SightDep,
    meter: MeterDep,
) -> dict[str, Any]:
    """Say no."""
    return await _answer(approval_id, body, caller, doors, schemas, sight, meter, approved=False)


async def _answer(
    approval_id: str,
    body: Answered,
    caller: Caller,
    doors: DoorsDep,
    schemas: Schemas,
    sight: Sight,
    meter: Meter,
    *,
    approved: bool,
) -> dict[str, Any]:
    assert caller.person_id is not None, "no machine has this permission"
    async with doors.open(caller.organization) as work:
        answered = await service.answer(
            work,
            approval_id,
            person_id=caller.person_id,
            handle=caller.handle,
            approved=approved,
            note=body.note,
            at=now(),
            channel=Channel.API,
            hides=by_schema(schemas, sight.hides),
        )
    measure(meter, caller.organization, answered)
    return await _seen(answered, schemas, sight)


async def _link(token: str, request: Request, signer: SignerDep) -> links.Link:
    """What a token is for; a forged one is kept as a refused attempt. Raises LinkForged, RateExceeded."""
    try:
        link = links.read(signer, token)
    except LinkForged:
        await refused(request, None, "forged_link", "", "link")
        raise
    request.app.state.rates.take(f"link {link.id}")
    return link


async def _seen(one: Approval, schemas: Schemas, sight: Sight) -> dict[str, Any]:
    """An approval as this caller may see it; ``redacted`` says that its arguments are not shown as they are."""
    document = shown(one)
    if sight.masks:
        arguments = await sight.of_call(document["arguments"], schemas.input_schema(one.skill, one.skill_version))
        document |= {"arguments": arguments, "redacted": arguments != document["arguments"]}
    return document


def shown(one: Approval) -> dict[str, Any]:
    """An approval as the API shows it."""
    return {
        "id": one.id,
        "run_id": one.run_id,
        "step": one.step,
        "round": one.round,
        "deployment_id": one.deployment_id,
        "agent_id": one.agent_id,
        "skill": one.skill,
        "skill_version": one.skill_version,
        "effect": one.effect.name,
        "arguments": json.loads(one.arguments),
        "arguments_digest": one.arguments_digest,
        "requested_by": one.requested_by,
        "needed": one.needed,
        "level": one.level,
        "status": one.status.value,
        "reason": one.reason or None,
        "decided_by": one.decided_by or None,
        "asked_at": one.asked_at,
        "expires_at": one.expires_at,
        "decided_at": one.decided_at,
        "consumed_at": one.consumed_at,
    }
