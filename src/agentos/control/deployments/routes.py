"""The HTTP door to deployments, and to applying manifests. Its routes stand before ``/agents/{agent_id}``.

A deployment's ``ETag`` is the number of its state. A change that says ``If-Match`` is made to just that state or not at
all (412).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.agents import manifest
from agentos.control.agents.ports import ModelCatalogue, SkillCatalogue
from agentos.control.deployments import applying, service
from agentos.control.deployments.applying import Deployed
from agentos.control.deployments.model import PRODUCTION, Deployment, Revision, last_known_good
from agentos.control.policy import routes as policies
from agentos.control.policy.model import Tier
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import Cursor, DoorsDep, FreeJson, IfMatch, Limit, number_in, page, position_of
from agentos.kernel.unit_of_work import UnitOfWork

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])

NO_NUL: Final = r"^[^\x00]*$"  # PostgreSQL's text has no room for it

TierName = Literal["L0", "L1", "L2", "L3", "L4"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Documents(_Body):
    """Manifests as JSON documents."""

    documents: list[FreeJson] = Field(min_length=1, description="Each as in a manifest's YAML, kind Agent.")


class Wanted(_Body):
    """A deployment to create."""

    agent_id: str = Field(max_length=63)
    environment: str = Field(max_length=63)
    version: str | None = Field(None, max_length=80, description="Number, hash or its beginning; else the latest.")
    tier: TierName | None = Field(None, description="In force; else the version's highest.")
    serve: bool = Field(False, description="Let the version serve at once; else it is a draft.")


async def skills(request: Request) -> SkillCatalogue:
    """The skills that are loaded."""
    found: SkillCatalogue = request.app.state.skills
    return found


async def models(request: Request) -> ModelCatalogue:
    """The models that can be asked."""
    found: ModelCatalogue = request.app.state.models
    return found


Applier = Annotated[Caller, may(Permission.APPLY_AGENTS)]
Deployer = Annotated[Caller, may(Permission.CHANGE_DEPLOYMENTS)]
SkillsDep = Annotated[SkillCatalogue, Depends(skills)]
ModelsDep = Annotated[ModelCatalogue, Depends(models)]
PolicyChanger = Annotated[Caller, may(Permission.CHANGE_POLICIES)]
Filter = Annotated[str, Query(max_length=63, pattern=r"^[a-z0-9_-]*$")]


@router.post("")
async def apply(
    body: Documents,
    caller: Applier,
    doors: DoorsDep,
    skills: SkillsDep,
    models: ModelsDep,
    environment: Filter = PRODUCTION,
) -> dict[str, Any]:
    """Apply manifests, all or none. The same content is the same version; applying again changes nothing."""
    manifests = manifest.read_documents(body.documents)
    async with doors.open(caller.organization) as work:
        done = await applying.apply(
            work, manifests, skills, models, by=caller.handle, at=now(), environment=environment
        )
    return {"applied": [_deployed(one) for one in done]}


@router.get("/deployments")
async def list_deployments(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    agent: Filter = "",
    environment: Filter = "",
    state: Filter = "",
) -> dict[str, Any]:
    """Deployments by age; those of an agent, an environment or a state where given."""
    async with doors.open(caller.organization) as work:
        found = await service.list_deployments(
            work, agent_id=agent, environment=environment, state=state, after=position_of(cursor), most=limit + 1
        )
    return page([shown(one) for one in found], limit)


@router.post("/deployments", status_code=201)
async def create(
    body: Wanted, caller: Deployer, doors: DoorsDep, skills: SkillsDep, response: Response
) -> dict[str, Any]:
    """Give an agent a place in an environment."""
    async with doors.open(caller.organization) as work:
        made = await applying.create(
            work,
            body.agent_id,
            body.environment,
            body.version,
            skills,
            tier=Tier[body.tier] if body.tier else None,
            serve=body.serve,
            by=caller.handle,
            at=now(),
        )
        response.headers["Location"] = f"{router.prefix}/deployments/{made.id}"
        return await answered(work, made, response)


@router.get("/deployments/{deployment_id}")
async def show(deployment_id: str, caller: Reader, doors: DoorsDep, response: Response) -> dict[str, Any]:
    """One deployment with its history, newest first, and the revision that is known to have been good last."""
    async with doors.open(caller.organization) as work:
        return await answered(work, await service.get(work, deployment_id), response)


@router.get("/deployments/{deployment_id}/policy")
async def show_policy(deployment_id: str, caller: Reader, doors: DoorsDep, response: Response) -> dict[str, Any]:
    """What is said of this deployment's calls besides its tier and the organization's policy."""
    async with doors.open(caller.organization) as work:
        return policies.shown(await service.policy_of(work, deployment_id), response)


@router.put("/deployments/{deployment_id}/policy")
async def set_policy(
    deployment_id: str,
    body: policies.NewDeploymentPolicy,
    caller: PolicyChanger,
    doors: DoorsDep,
    response: Response,
    match: IfMatch,
) -> dict[str, Any]:
    """Put a policy in force for this deployment, from the next effect of runs under way on."""
    async with doors.open(caller.organization) as work:
        found = await service.set_policy(
            work,
            deployment_id,
            body.policy.read(),
            by=caller.handle,
            at=now(),
            reason=body.reason,
            confirm=body.confirm,
            if_match=match,
        )
    return policies.shown(found, response)


@router.get("/deployments/{deployment_id}/policy/history")
async def policy_history(
    deployment_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """Every policy that this deployment ever had, newest first."""
    async with doors.open(caller.organization) as work:
        found = await service.policy_history(work, deployment_id, before=number_in(cursor), most=limit + 1)
    return page([policies.kept(one) for one in found], limit, by="number")


def shown(one: Deployment) -> dict[str, Any]:
    """A deployment as the API shows it."""
    return {
        "id": one.id,
        "agent_id": one.agent_id,
        "environment": one.environment,
        "state": one.state.value,
        "tier": one.tier.name,
        "revision": one.revision,
        "version": one.version,
        "canary": None if one.canary is None else asdict(one.canary),
        "etag": str(one.etag),
        "created_at": one.created_at,
    }


async def answered(work: UnitOfWork, one: Deployment, response: Response) -> dict[str, Any]:
    """A deployment with its history, as the answer to what was done with it."""
    response.headers["ETag"] = f'"{one.etag}"'
    past = await service.history(work, one.id)
    good = last_known_good(past, one.revision)
    return shown(one) | {
        "last_known_good": _revision(good) if good else "unknown",
        "history": [_revision(each) for each in past],
    }


def _revision(one: Revision) -> dict[str, Any]:
    return {
        "number": one.number,
        "version": one.version,
        "version_number": one.version_number,
        "status": one.status.value,
        "reason": one.reason,
        "created_by": one.created_by,
        "created_at": one.created_at,
        "served_from": one.served_from,
        "served_until": one.served_until,
    }


def _deployed(one: Deployed) -> dict[str, Any]:
    version, deployment, revision = one.applied.version, one.ensured.deployment, one.ensured.revision
    return {
        "agent_id": version.agent_id,
        "number": version.number,
        "version": version.hash,
        "result": "created" if one.applied.created else "unchanged",
        "deployment_id": deployment.id,
        "environment": deployment.environment,
        "revision": revision.number if revision else None,
        "status": revision.status.value if revision else deployment.state.value,
    }
