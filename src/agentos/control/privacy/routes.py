"""The HTTP door to an organization's rules of privacy, and what each caller is shown of personal data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.privacy import service
from agentos.control.privacy.model import DEFAULT_TEMPLATE, MOST_REGIONS, USUAL, Counts, Kind, Mode, Rules
from agentos.control.privacy.service import Privacy
from agentos.control.privacy.settings import PrivacySettings
from agentos.control.privacy.values import Schema
from agentos.intake.identity.model import Caller, Permission
from agentos.intake.identity.routes import CallerDep, Reader, may
from agentos.kernel.clock import now
from agentos.kernel.http import DoorsDep
from agentos.kernel.unit_of_work import Doors

router = APIRouter(prefix="/api/v1/privacy", tags=["privacy"])

Changer = Annotated[Caller, may(Permission.CHANGE_PRIVACY)]
_USUAL = PrivacySettings.model_fields["regions"].default


class NewRules(BaseModel):
    """What is looked for and what becomes of it."""

    model_config = ConfigDict(extra="forbid")
    kinds: list[Kind] = Field(
        default_factory=lambda: sorted(USUAL), max_length=50, description="Those of class A are looked for anyway."
    )
    mode: Mode = Mode.MASK
    modes: dict[Kind, Mode] = Field(default_factory=dict, description="Of kinds that differ from mode.")
    template: str = Field(DEFAULT_TEMPLATE, max_length=100, description="The marker; {type} stands for the kind.")
    regions: list[str] = Field(
        default_factory=lambda: _USUAL.split(","),
        max_length=MOST_REGIONS,
        description="Whose national phone numbers are looked for, as DE.",
    )


async def privacy(request: Request) -> Privacy:
    """How this process redacts."""
    found: Privacy = request.app.state.privacy
    return found


PrivacyDep = Annotated[Privacy, Depends(privacy)]


@dataclass(slots=True)
class Sight:
    """What a caller is shown of personal data: all of it, or what the organization's rules leave."""

    privacy: Privacy
    rules: Rules | None  # None: all of it
    counts: Counts

    @property
    def masks(self) -> bool:
        """Whether anything is kept from this caller."""
        return self.rules is not None

    def hides(self, value: Any, schema: Schema | None) -> bool:
        """Whether anything of what a skill takes or returns is kept from this caller; all of it without its schema."""
        return self.rules is not None and service.hides(self.privacy, self.rules, value, schema)

    async def of(self, value: Any, schema: Schema | None = None) -> Any:
        """A value as the caller may see it; fields that the schema annotates are what it says."""
        if self.rules is None:
            return value
        shown, counts = await service.redacted(self.privacy, self.rules, value, place="answers", schema=schema)
        self.counts += counts
        return shown

    async def of_call(self, value: Any, schema: Schema | None) -> Any:
        """What a skill takes or returns as the caller may see it; nothing of it where its schema is not known."""
        if self.masks and schema is None and not service.is_empty(value):
            return service.UNKNOWN
        return await self.of(value, schema)


async def look(caller: Caller, doors: Doors, privacy: Privacy) -> Sight:
    """What this caller is shown."""
    if Permission.SEE_PERSONAL_DATA in caller.permissions:
        return Sight(privacy, None, Counts())
    async with doors.open(caller.organization) as work:
        return Sight(privacy, await service.rules_of(work, privacy), Counts())


async def sight(request: Request, caller: CallerDep, doors: DoorsDep, privacy: PrivacyDep) -> Sight:
    """What the caller is shown, for routes that know what their fields hold; every answer is looked through besides."""
    found = await look(caller, doors, privacy)
    request.state.sight = found
    return found


SightDep = Annotated[Sight, Depends(sight)]


@router.get("/rules")
async def show_rules(caller: Reader, doors: DoorsDep, privacy: PrivacyDep) -> dict[str, Any]:
    """What is looked for and what becomes of it; ``changed_by`` is null where it is the installation's usual."""
    async with doors.open(caller.organization) as work:
        rules, by, at = await service.standing(work, privacy)
    return rules.document() | {"changed_by": by, "changed_at": at}


@router.put("/rules")
async def change_rules(body: NewRules, caller: Changer, doors: DoorsDep, privacy: PrivacyDep) -> dict[str, Any]:
    """Say what is looked for and what becomes of it. It binds the next answer, and the prompts of a next segment."""
    at = now()
    async with doors.open(caller.organization) as work:
        rules = await service.change(
            work,
            privacy,
            kinds=frozenset(body.kinds),
            mode=body.mode,
            modes=body.modes,
            template=body.template,
            regions=tuple(body.regions),
            by=caller.handle,
            at=at,
        )
    return rules.document() | {"changed_by": caller.handle, "changed_at": at}
