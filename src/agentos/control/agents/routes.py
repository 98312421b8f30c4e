"""The HTTP door to agents and their versions. Applying is deploying, so its door is that of deployments."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from agentos.control.agents import service
from agentos.control.agents.model import Agent, Version, VersionEntry
from agentos.intake.identity.routes import Reader
from agentos.kernel.http import BadCursor, Cursor, DoorsDep, Limit, page, position_of

router = APIRouter(prefix="/api/v1/agents", tags=["agents"])


@router.get("")
async def list_agents(caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = "") -> dict[str, Any]:
    """Agents by name."""
    async with doors.open(caller.organization) as work:
        found = await service.list_agents(work, after=position_of(cursor), most=limit + 1)
    return page([shown(one) for one in found], limit)


@router.get("/{agent_id}")
async def show_agent(agent_id: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One agent with the definition of its latest version."""
    async with doors.open(caller.organization) as work:
        found = await service.get_agent(work, agent_id)
        latest = await service.get_version(work, agent_id, found.latest)
    return shown(found) | {"definition": latest.definition.canonical()}


@router.get("/{agent_id}/versions")
async def list_versions(
    agent_id: str, caller: Reader, doors: DoorsDep, limit: Limit = 50, cursor: Cursor = ""
) -> dict[str, Any]:
    """An agent's versions, newest first."""
    position = position_of(cursor) or str(2**31 - 1)
    if not (position.isascii() and position.isdigit() and int(position[:11]) < 2**31):
        raise BadCursor("this cursor was not given out by this listing", then="Start again without a cursor.")
    async with doors.open(caller.organization) as work:
        found = await service.list_versions(work, agent_id, before=int(position), most=limit + 1)
    return page([version_shown(one) for one in found], limit, by="number")


@router.get("/{agent_id}/versions/{version}")
async def show_version(agent_id: str, version: str, caller: Reader, doors: DoorsDep) -> dict[str, Any]:
    """One version with its definition, named by number, by hash or by the beginning of the hash."""
    async with doors.open(caller.organization) as work:
        found = await service.get_version(work, agent_id, version)
    return version_shown(found) | {"definition": found.definition.canonical()}


def shown(one: Agent) -> dict[str, Any]:
    """An agent as the API shows it."""
    return {
        "id": one.id,
        "category": one.category,
        "owner": one.owner,
        "versions": one.versions,
        "latest": one.latest,
        "created_at": one.created_at,
    }


def version_shown(one: Version | VersionEntry) -> dict[str, Any]:
    """A version as the API shows it, without its definition."""
    return {
        "agent_id": one.agent_id,
        "number": one.number,
        "hash": one.hash,
        "tier": (one.definition.tier if isinstance(one, Version) else one.tier).name,
        "created_by": one.created_by,
        "created_at": one.created_at,
    }
