"""The HTTP door to the organization's policy, and the words that a deployment's shares with it.

A policy's ``ETag`` is its number within its scope, 0 before anything was saved. A change that says ``If-Match`` is made
to just that state or not at all (412). Who may read sees what is in force; changing it takes a permission of its own.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.policy import cedar, service
from agentos.control.policy.model import DeploymentPolicy, OrganizationPolicy, Saved
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import Reader, may
from agentos.kernel.clock import now
from agentos.kernel.epochs import ORGANIZATION
from agentos.kernel.http import Cursor, DoorsDep, IfMatch, Limit, number_in, page

router = APIRouter(prefix="/api/v1/agents/policies", tags=["policies"])

NO_NUL: Final = r"^[^\x00]*$"

Names = Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=service.MOST_ENTRIES)]
Changer = Annotated[Caller, may(Permission.CHANGE_POLICIES)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class OrganizationRules(_Body):
    """What an organization says of every agent's calls."""

    deny: Names = Field(default_factory=list, description="Globs of skills that nobody may call.")
    disabled: Names = Field(default_factory=list, description="Skills that are switched off.")
    ask: Names = Field(default_factory=list, description="Globs of skills that always take an approval.")
    trusted: Names = Field(default_factory=list, description="Skills of S3 that L4 calls without asking.")
    cedar: str = Field("", max_length=cedar.MOST_TEXT, description="Rules in Cedar; see docs/reference/policy.md.")

    def read(self) -> OrganizationPolicy:
        """The policy that this stands for."""
        return OrganizationPolicy.read(self.model_dump())


class DeploymentRules(_Body):
    """What is said of the calls of one deployment, besides its tier."""

    deny: Names = Field(default_factory=list, description="Globs of skills that it may not call.")
    allow: Names | None = Field(None, description="Globs: it may call these and no others of its version's.")
    ask: Names = Field(default_factory=list, description="Globs of skills that always take an approval.")

    def read(self) -> DeploymentPolicy:
        """The policy that this stands for."""
        return DeploymentPolicy.read(self.model_dump())


class _Change(_Body):
    reason: str = Field("", max_length=2000, pattern=NO_NUL, description="Why; kept in the history.")
    confirm: bool = Field(False, description="Save it although it would deny every call.")


class NewOrganizationPolicy(_Change):
    """A policy that is to be in force for every agent."""

    policy: OrganizationRules


class NewDeploymentPolicy(_Change):
    """A policy that is to be in force for one deployment."""

    policy: DeploymentRules


@router.get("/organization")
async def show(caller: Reader, doors: DoorsDep, response: Response) -> dict[str, Any]:
    """What the organization says of every agent's calls."""
    async with doors.open(caller.organization) as work:
        return shown(await service.get(work, ORGANIZATION), response)


@router.put("/organization")
async def change(
    body: NewOrganizationPolicy, caller: Changer, doors: DoorsDep, response: Response, match: IfMatch
) -> dict[str, Any]:
    """Put a policy in force for every agent, from the next effect of runs under way on."""
    async with doors.open(caller.organization) as work:
        found = await service.save(
            work,
            ORGANIZATION,
            body.policy.read(),
            by=caller.handle,
            at=now(),
            reason=body.reason,
            confirm=body.confirm,
            if_match=match,
        )
    return shown(found, response)


@router.get("/organization/history")
async def history(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """Every policy that was in force for the organization, newest first."""
    async with doors.open(caller.organization) as work:
        found = await service.history(work, ORGANIZATION, before=number_in(cursor), most=limit + 1)
    return page([kept(one) for one in found], limit, by="number")


def shown(one: Saved, response: Response) -> dict[str, Any]:
    """A policy as the API shows it, its state in the answer's ETag."""
    response.headers["ETag"] = f'"{one.number}"'
    return kept(one) | {"etag": str(one.number)}


def kept(one: Saved) -> dict[str, Any]:
    """A policy as a history shows it."""
    return {
        "scope": one.scope,
        "number": one.number,
        "hash": one.hash,
        "policy": one.document,
        "reason": one.reason,
        "saved_by": one.saved_by or None,
        "saved_at": one.saved_at,
    }
