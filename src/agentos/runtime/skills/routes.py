"""The HTTP door to the registry of skills. It is the platform's: every organization reads the same, and none writes."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request

from agentos.intake.identity.routes import Reader
from agentos.kernel.clock import now
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, SignerDep, page, position_of
from agentos.runtime.skills import exports, registered
from agentos.runtime.skills.registered import Entry, Keeper
from agentos.runtime.skills.service import Registry

router = APIRouter(prefix="/api/v1", tags=["skills"])

_TEXT = r"^[^\x00]*$"  # PostgreSQL's text has no room for NUL


async def registry(request: Request) -> Registry:
    """The skills that are loaded."""
    found: Registry = request.app.state.registry
    return found


async def keeper(request: Request) -> Keeper:
    """Who compares what is loaded with what is registered."""
    found: Keeper = request.app.state.keeper
    return found


RegistryDep = Annotated[Registry, Depends(registry)]
KeeperDep = Annotated[Keeper, Depends(keeper)]
Name = Annotated[str, Path(max_length=64, pattern=_TEXT)]
Version = Annotated[str, Query(max_length=64, pattern=_TEXT, description="A version as it was registered.")]
Wanted = Annotated[str, Query(max_length=64, pattern=_TEXT, description="A version, a range such as ^1.2, or latest.")]


@router.get("/skills")
async def list_skills(
    caller: Reader, doors: DoorsDep, loaded: RegistryDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """Every registered version of every skill by name and version, and whether this process serves it."""
    name, at, version = position_of(cursor).partition("@")
    if name and not at:
        raise BadCursor("this cursor was not given out by this listing", then="Start again without a cursor.")
    async with doors.open(caller.organization) as work:
        found = await registered.every(work, loaded, after=(name, version), most=limit + 1)
    return page([_shown(one) for one in found], limit)


@router.get("/skills/{skill}")
async def show_skill(skill: Name, caller: Reader, doors: DoorsDep, loaded: RegistryDep) -> dict[str, Any]:
    """A skill's registered versions, oldest first, with the contract of each."""
    async with doors.open(caller.organization) as work:
        found = await registered.versions_of(work, loaded, skill)
    return {"name": skill, "versions": [_shown(one) | {"contract": one.registered.document} for one in found]}


@router.get("/skills/{skill}/resolve")
async def resolve_skill(
    skill: Name, caller: Reader, doors: DoorsDep, loaded: RegistryDep, version: Wanted = "latest"
) -> dict[str, Any]:
    """The registered version that a version, a range or ``latest`` means today."""
    async with doors.open(caller.organization) as work:
        return _shown(await registered.resolve(work, loaded, skill, version))


@router.get("/skills/{skill}/diff")
async def compare_skill(skill: Name, caller: Reader, doors: DoorsDep, was: Version, to: Version) -> dict[str, Any]:
    """What a version of a skill changes for whoever relied on another one, and whether that breaks them."""
    async with doors.open(caller.organization) as work:
        found = await registered.difference(work, skill, was, to)
    return {
        "name": skill,
        "was": was,
        "to": to,
        "breaks": bool(found.breaking),
        "breaking": list(found.breaking),
        "compatible": list(found.compatible),
    }


@router.get("/registry")
async def show_registry(_caller: Reader, loaded: RegistryDep, kept: KeeperDep) -> dict[str, Any]:
    """Whether the registry takes new skills, and which loaded skills this process does not serve, and why."""
    withheld = [
        {"name": name, "version": version, "reason": why} for (name, version), why in sorted(loaded.withheld.items())
    ]
    return {
        "read_only": kept.read_only,
        "compared": kept.settled,
        "loaded": len(loaded.every()),
        "withheld": withheld if kept.settled else "unknown",
    }


@router.get("/registry/export")
async def export_registry(_caller: Reader, doors: DoorsDep, signer: SignerDep) -> dict[str, Any]:
    """The whole registry as one signed document, for a file."""
    rows = await registered.everything(doors.database)
    return exports.export(rows, signer, at=now())


def _shown(one: Entry) -> dict[str, Any]:
    row = one.registered
    return {
        "id": f"{row.name}@{row.version}",
        "name": row.name,
        "version": row.version,
        "digest": row.digest,
        "seal": row.seal,
        "effect": row.document.get("effect"),
        "state": one.state,
        "loaded": one.loaded,
        "withheld": one.withheld,
        "first_seen": row.first_seen,
        "first_service": row.first_service,
    }
