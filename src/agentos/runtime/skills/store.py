"""The registry of skills in the database: read by use cases, written by functions of the system role."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.canonical import digest
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.runtime.skills.model import Contract, Registered

_ROWS: Final = "SELECT name, version, digest, contract, seal, first_seen, first_service FROM skills "
_GET: Final = text(_ROWS + "WHERE name = :name AND version = :version")
_VERSIONS: Final = text(_ROWS + "WHERE name = :name ORDER BY version LIMIT :most")
_PAGE: Final = text(_ROWS + "WHERE (name, version) > (:name, :version) ORDER BY name, version LIMIT :most")
_ALL: Final = text(_ROWS + "ORDER BY name, version")
_REGISTER: Final = text(
    "SELECT name, version, digest, added FROM skills_registered(CAST(:skills AS jsonb), :service, :write)"
)
_RESTORE: Final = text(
    "SELECT skill_restored(:name, :version, :digest, CAST(:contract AS jsonb), :seal, :first_seen, :first_service, "
    ":seen_digest, :seen_seal, :by)"
)


async def get(work: UnitOfWork, name: str, version: str) -> Registered | None:
    """One skill."""
    row = await work.first(_GET, {"name": name, "version": version})
    return _read(row) if row else None


async def versions(work: UnitOfWork, name: str, most: int) -> list[Registered]:
    """A skill's versions."""
    return [_read(row) for row in await work.all(_VERSIONS, {"name": name, "most": most})]


async def page(work: UnitOfWork, after: tuple[str, str], most: int) -> list[Registered]:
    """Skills by name and version."""
    return [_read(row) for row in await work.all(_PAGE, {"name": after[0], "version": after[1], "most": most})]


async def everything(connection: AsyncConnection) -> list[Registered]:
    """Every skill by name and version, past any organization."""
    return [_read(row) for row in (await connection.execute(_ALL)).all()]


async def register(
    connection: AsyncConnection, contracts: Sequence[Contract], service: str, *, write: bool
) -> dict[tuple[str, str], tuple[str, bool]]:
    """Register contracts that are not registered, unless only told to look; as the system role.

    For each that is registered now: the digest that holds, and whether it was added.
    """
    told = [
        {"name": one.name, "version": one.version, "digest": one.digest, "contract": document, "seal": digest(document)}
        for one in contracts
        for document in [one.document()]
    ]
    rows = await connection.execute(_REGISTER, {"skills": json.dumps(told), "service": service, "write": write})
    return {(row.name, row.version): (row.digest, row.added) for row in rows.all()}


async def restore(connection: AsyncConnection, one: Registered, seen: Registered | None, by: str) -> bool:
    """Put a row back: a missing one, or in place of the one that was seen; as the system role. False: it is another."""
    values = {
        "name": one.name,
        "version": one.version,
        "digest": one.digest,
        "contract": json.dumps(one.document),
        "seal": one.seal,
        "first_seen": one.first_seen,
        "first_service": one.first_service,
        "seen_digest": seen.digest if seen else None,
        "seen_seal": seen.seal if seen else None,
        "by": by,
    }
    return bool((await connection.execute(_RESTORE, values)).scalar_one())


def _read(row: Row[Any]) -> Registered:
    return Registered(row.name, row.version, row.digest, row.contract, row.seal, row.first_seen, row.first_service)
