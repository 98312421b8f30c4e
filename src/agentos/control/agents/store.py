"""Agents, versions and pinned skills in the database."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.control.agents.model import Agent, Definition, Version, VersionEntry
from agentos.control.policy.model import Tier
from agentos.kernel.ids import AgentId
from agentos.kernel.unit_of_work import UnitOfWork

_AGENT: Final = (
    "SELECT a.id, a.category, a.owner, a.created_at, v.number AS versions, v.hash AS latest FROM agents a "
    "JOIN LATERAL (SELECT number, hash FROM versions WHERE org = a.org AND agent_id = a.id "
    "ORDER BY number DESC LIMIT 1) v ON true "
)
_PUT: Final = text(
    "INSERT INTO agents (org, id, category, owner, created_at) VALUES (:org, :id, :category, :owner, :at) "
    "ON CONFLICT (org, id) DO UPDATE SET category = excluded.category, owner = excluded.owner"
)
_GET: Final = text(_AGENT + "WHERE a.id = :id")
_LIST: Final = text(_AGENT + "WHERE a.id > :after ORDER BY a.id LIMIT :most")
_VERSION: Final = "SELECT agent_id, number, hash, definition, created_by, created_at FROM versions "
_BY_HASH: Final = text(_VERSION + "WHERE agent_id = :agent_id AND hash = :hash")
_BY_NUMBER: Final = text(_VERSION + "WHERE agent_id = :agent_id AND number = :number")
_BY_PREFIX: Final = text(_VERSION + "WHERE agent_id = :agent_id AND starts_with(hash, :prefix) LIMIT 2")
_VERSIONS: Final = text(
    "SELECT agent_id, number, hash, definition ->> 'tier' AS tier, created_by, created_at FROM versions "
    "WHERE agent_id = :agent_id AND number < :before ORDER BY number DESC LIMIT :most"
)
_NEXT: Final = text("SELECT coalesce(max(number), 0) + 1 AS number FROM versions WHERE agent_id = :agent_id")
_ADD: Final = text(
    "INSERT INTO versions (org, agent_id, number, hash, definition, created_by, created_at) "
    "VALUES (:org, :agent_id, :number, :hash, CAST(:definition AS jsonb), :by, :at)"
)
_CATEGORY: Final = text("SELECT true AS found FROM versions WHERE definition ->> 'category' = :category LIMIT 1")
_PIN: Final = text(
    "INSERT INTO pins (org, skill, version, digest, agent_id, pinned_at) "
    "VALUES (:org, :skill, :version, :digest, :agent_id, :at) ON CONFLICT (org, skill, version) DO NOTHING"
)
_PINNED: Final = text("SELECT digest, agent_id FROM pins WHERE skill = :skill AND version = :version")


async def put_agent(work: UnitOfWork, definition: Definition, at: datetime) -> None:
    """Add the agent, or bring its category and owner up to date; its row stays locked until the unit of work ends."""
    values = {"id": definition.agent_id, "category": definition.category, "owner": definition.owner, "at": at}
    await work.run(_PUT, {"org": work.organization, **values})


async def agent(work: UnitOfWork, agent_id: str) -> Agent | None:
    """One agent."""
    row = await work.first(_GET, {"id": agent_id})
    return _agent(row) if row else None


async def agents(work: UnitOfWork, after: str, most: int) -> list[Agent]:
    """Agents by name."""
    return [_agent(row) for row in await work.all(_LIST, {"after": after, "most": most})]


async def by_hash(work: UnitOfWork, agent_id: str, hashed: str) -> Version | None:
    """The version of that hash."""
    row = await work.first(_BY_HASH, {"agent_id": agent_id, "hash": hashed})
    return _version(row) if row else None


async def by_number(work: UnitOfWork, agent_id: str, number: int) -> Version | None:
    """The version of that number."""
    row = await work.first(_BY_NUMBER, {"agent_id": agent_id, "number": number})
    return _version(row) if row else None


async def by_prefix(work: UnitOfWork, agent_id: str, prefix: str) -> list[Version]:
    """At most two versions whose hash begins so: two mean that the beginning is ambiguous."""
    rows = await work.all(_BY_PREFIX, {"agent_id": agent_id, "prefix": prefix})
    return [_version(row) for row in rows]


async def versions(work: UnitOfWork, agent_id: str, before: int, most: int) -> list[VersionEntry]:
    """The agent's versions, newest first."""
    rows = await work.all(_VERSIONS, {"agent_id": agent_id, "before": before, "most": most})
    return [VersionEntry(**{**row._mapping, "tier": Tier[row.tier]}) for row in rows]


async def has_category(work: UnitOfWork, category: str) -> bool:
    """Whether any version of any agent is of that category."""
    return await work.first(_CATEGORY, {"category": category}) is not None


async def next_number(work: UnitOfWork, agent_id: str) -> int:
    """The number of the agent's next version; the agent's row must be locked."""
    row = await work.first(_NEXT, {"agent_id": agent_id})
    assert row is not None
    return int(row.number)


async def add_version(work: UnitOfWork, version: Version) -> None:
    """Add a version of an agent that is locked."""
    await work.run(
        _ADD,
        {
            "org": work.organization,
            "agent_id": version.agent_id,
            "number": version.number,
            "hash": version.hash,
            "definition": json.dumps(version.definition.canonical()),
            "by": version.created_by,
            "at": version.created_at,
        },
    )


async def pin(work: UnitOfWork, skill: str, version: str, digest: str, agent_id: str, at: datetime) -> tuple[str, str]:
    """Pin a skill unless it is pinned; the digest that holds and the agent that it was pinned for.

    A pin that another unit of work is making is waited for.
    """
    values = {"skill": skill, "version": version, "digest": digest, "agent_id": agent_id, "at": at}
    if await work.run(_PIN, {"org": work.organization, **values}):
        return digest, agent_id
    row = await work.first(_PINNED, {"skill": skill, "version": version})
    assert row is not None
    return row.digest, row.agent_id


def _version(row: Row[Any]) -> Version:
    return Version(**{**row._mapping, "agent_id": AgentId(row.agent_id), "definition": Definition.read(row.definition)})


def _agent(row: Row[Any]) -> Agent:
    return Agent(**{**row._mapping, "id": AgentId(row.id)})
