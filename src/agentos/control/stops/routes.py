"""The HTTP door to stops and to the emergency denylist. Its routes stand before ``/agents/{agent_id}``."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from agentos.control.stops import service
from agentos.control.stops.model import Denylist, Stop, StopKind, StopScope, Wanted, confirmed
from agentos.control.stops.settings import StopSettings
from agentos.intake.identity.model import Caller, NotAllowed, Permission
from agentos.intake.identity.routes import Reader, may, refused
from agentos.kernel.http import Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1", tags=["stops"])

NO_NUL: Final = r"^[^\x00]*$"  # PostgreSQL's text has no room for it
MOST_ENTRIES: Final = 500  # of one kind in the denylist

Stopper = Annotated[Caller, may(Permission.ORDER_STOPS)]
Reason = Annotated[str, Query(max_length=2000, pattern=NO_NUL, description="Why; kept with the stop.")]
Entries = Annotated[list[Annotated[str, Field(max_length=253, pattern=NO_NUL)]], Field(max_length=MOST_ENTRIES)]

# Besides the right to order stops: what a wide one takes.
_TAKES: Final = {
    StopScope.ORGANIZATION: Permission.STOP_ORGANIZATION,
    StopScope.GLOBAL: Permission.STOP_EVERYTHING,
}


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewStop(_Body):
    """A stop to order."""

    kind: StopKind
    scope: StopScope
    target: str = Field("", max_length=253, pattern=NO_NUL, description="What it is about; none for the widest two.")
    reason: str = Field("", max_length=2000, pattern=NO_NUL)
    confirm: str = Field("", max_length=253, description="'global', or a target that denies everything, once more.")


class DenylistBody(_Body):
    """The entries that are to be in force, all of them."""

    skills: Entries = []
    domains: Entries = []
    agents: Entries = []
    providers: Entries = []
    revision: int | None = Field(None, ge=0, le=2**62, description="The one that this was made from.")
    reason: str = Field("", max_length=2000, pattern=NO_NUL)
    confirm: str = Field("", max_length=253, description="An entry that denies everything, once more.")


@router.post("/stops", status_code=201)
async def order_stop(
    body: NewStop, request: Request, response: Response, caller: Stopper, doors: DoorsDep
) -> dict[str, Any]:
    """Order a stop. It binds from now on; ordering the same again returns the first."""
    await _permit(request, caller, body.scope)
    wanted = Wanted(body.kind, body.scope, body.target, body.reason, body.confirm)
    if body.scope is StopScope.GLOBAL:
        made = await service.order_everything(doors, wanted, organization=caller.organization, by=caller.handle)
    else:
        async with doors.open(caller.organization) as work:
            made = await service.order(work, wanted, by=caller.handle)
    response.headers["Location"] = f"/api/v1/stops/{made.id}"
    return _stop(made)


@router.get("/stops")
async def list_stops(
    caller: Reader,
    doors: DoorsDep,
    limit: Limit = 50,
    cursor: Cursor = "",
    kind: StopKind | None = None,
    scope: StopScope | None = None,
    in_force: bool = True,
) -> dict[str, Any]:
    """Stops, newest first; those in force unless asked otherwise."""
    async with doors.open(caller.organization) as work:
        found = await service.listed(
            work, kind=kind or "", scope=scope or "", in_force=in_force, before=position_of(cursor), most=limit + 1
        )
    return page([_stop(one) for one in found], limit)


@router.get("/stops/{stop_id}")
async def show_stop(stop_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One stop."""
    async with doors.open(caller.organization) as work:
        return _stop(await service.get(work, stop_id))


@router.delete("/stops/{stop_id}")
async def lift_stop(
    stop_id: str,
    request: Request,
    caller: Stopper,
    doors: DoorsDep,
    reason: Reason = "",
    confirm: Annotated[str, Query(max_length=253, description="'global', to release every organization.")] = "",
) -> dict[str, Any]:
    """Lift a stop; runs that it held go on. Lifting it again changes nothing."""
    async with doors.open(caller.organization) as work:
        found = await service.get(work, stop_id)
    await _permit(request, caller, found.scope)
    if found.everybodys:
        confirmed(confirm)
        return _stop(
            await service.lift_everything(
                doors, found, organization=caller.organization, by=caller.handle, reason=reason
            )
        )
    async with doors.open(caller.organization) as work:
        return _stop(await service.lift(work, stop_id, by=caller.handle, reason=reason))


@router.get("/agents/policies/denylist")
async def show_denylist(caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """The emergency denylist."""
    async with doors.open(caller.organization) as work:
        return _denylist(await service.denylist(work))


@router.put("/agents/policies/denylist")
async def replace_denylist(body: DenylistBody, caller: Stopper, doors: DoorsDep) -> dict[str, Any]:
    """Let the emergency denylist hold just these entries. It binds from now on, also runs that are under way."""
    wanted = Denylist(tuple(body.skills), tuple(body.domains), tuple(body.agents), tuple(body.providers), 0)
    async with doors.open(caller.organization) as work:
        return _denylist(
            await service.replace_denylist(
                work, wanted, seen=body.revision, reason=body.reason, confirm=body.confirm, by=caller.handle
            )
        )


async def _permit(request: Request, caller: Caller, scope: StopScope) -> None:
    """Raises NotAllowed (403), and keeps the attempt as a fact, when a stop this wide is not the caller's to order."""
    needed = _TAKES.get(scope)
    if needed is None:
        return
    settings: StopSettings = request.app.state.stops
    here = scope is not StopScope.GLOBAL or caller.organization == settings.platform
    if here and needed in caller.permissions:
        return
    await refused(request, caller.organization, f"not_allowed:{needed}", caller.key_id, caller.handle)
    raise NotAllowed(
        f"this takes the permission '{needed}': to {needed.means}",
        then="Ask an incident commander or an admin." if here else "Ask whoever runs the platform.",
    )


def _stop(one: Stop) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind.value,
        "scope": one.scope.value,
        "target": one.target,
        "in_force": one.lifted_at is None,
        "reason": one.reason,
        "ordered_by": one.ordered_by,
        "ordered_at": one.ordered_at,
        "lifted_by": one.lifted_by,
        "lifted_at": one.lifted_at,
        "lift_reason": one.lift_reason,
    }


def _denylist(found: Denylist) -> dict[str, Any]:
    return {
        "skills": list(found.skills),
        "domains": list(found.domains),
        "agents": list(found.agents),
        "providers": list(found.providers),
        "revision": found.revision,
    }
