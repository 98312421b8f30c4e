"""Organizations, people and keys in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.intake.identity.model import Key, Permission, Person, Role
from agentos.kernel.ids import KeyId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork

_HOLDER: Final = text("SELECT * FROM key_holder(:hash)")
_FOUND: Final = text("SELECT organization_found(:org, :name)")
_ORGANIZATIONS: Final = text("SELECT * FROM organizations_all()")
_ORGANIZATION: Final = text("SELECT org, name, created_at FROM organizations")
_PEOPLE: Final = text("SELECT * FROM people WHERE handle > :after ORDER BY handle LIMIT :most")
_PERSON: Final = text("SELECT * FROM people WHERE handle = :handle FOR UPDATE")
_ADMINS: Final = text("SELECT id FROM people WHERE role = 'admin' AND disabled_at IS NULL ORDER BY id FOR UPDATE")
_ADD_PERSON: Final = text("INSERT INTO people (org, id, handle, role) VALUES (:org, :id, :handle, :role)")
_CHANGE_PERSON: Final = text("UPDATE people SET role = :role, disabled_at = :disabled_at WHERE id = :id")
_ADD_KEY: Final = text(
    "INSERT INTO keys (org, id, person_id, machine, hash, scopes, expires_at, created_by) "
    "VALUES (:org, :id, :person_id, :machine, :hash, :scopes, :expires_at, :created_by)"
)
_SHOWN: Final = (
    "SELECT k.id, k.person_id, k.machine, p.handle, k.scopes, k.created_by, k.created_at, k.expires_at, k.revoked_at "
    "FROM keys k LEFT JOIN people p ON p.id = k.person_id "
)

_KEYS: Final = text(f"{_SHOWN} WHERE k.id > :after ORDER BY k.id LIMIT :most")
_KEY: Final = text(f"{_SHOWN} WHERE k.id = :id FOR UPDATE OF k")
_EXPIRE: Final = text(
    "UPDATE keys SET expires_at = least(coalesce(expires_at, CAST(:at AS timestamptz)), :at) WHERE id = :id"
)
_REVOKE: Final = text("UPDATE keys SET revoked_at = :at WHERE id = :id")


async def holder(connection: AsyncConnection, hashed: bytes) -> Row[Any] | None:
    """Who holds the key with this hash; as the system role."""
    return (await connection.execute(_HOLDER, {"hash": hashed})).first()


async def found(connection: AsyncConnection, organization: OrgId, name: str) -> bool:
    """Found an organization; as the system role. True when it is new."""
    return bool((await connection.execute(_FOUND, {"org": organization, "name": name})).scalar_one())


async def organizations(connection: AsyncConnection) -> Sequence[Row[Any]]:
    """Every organization; as the system role."""
    return (await connection.execute(_ORGANIZATIONS)).all()


async def organization(work: UnitOfWork) -> Row[Any] | None:
    """The organization of this unit of work."""
    return await work.first(_ORGANIZATION)


async def people(work: UnitOfWork, after: str, most: int) -> list[Person]:
    """People by handle."""
    return [_person(row) for row in await work.all(_PEOPLE, {"after": after, "most": most})]


async def person(work: UnitOfWork, handle: str) -> Person | None:
    """The person of that handle, locked."""
    row = await work.first(_PERSON, {"handle": handle})
    return _person(row) if row else None


async def admins(work: UnitOfWork) -> list[str]:
    """The ids of the admins who may act, locked."""
    return [row.id for row in await work.all(_ADMINS)]


async def add_person(work: UnitOfWork, person_id: PersonId, handle: str, role: Role) -> None:
    """Add a person."""
    await work.run(_ADD_PERSON, {"org": work.organization, "id": person_id, "handle": handle, "role": role.value})


async def change_person(work: UnitOfWork, person_id: PersonId, role: Role, disabled_at: datetime | None) -> None:
    """Set a person's role, and since when they may not act."""
    await work.run(_CHANGE_PERSON, {"id": person_id, "role": role.value, "disabled_at": disabled_at})


async def keys(work: UnitOfWork, after: str, most: int) -> list[Key]:
    """Keys, oldest first."""
    return [_key(row) for row in await work.all(_KEYS, {"after": after, "most": most})]


async def key(work: UnitOfWork, key_id: str) -> Key | None:
    """One key, locked."""
    row = await work.first(_KEY, {"id": key_id})
    return _key(row) if row else None


async def add_key(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Add a key by its hash."""
    await work.run(_ADD_KEY, {"org": work.organization, **values})


async def expire(work: UnitOfWork, key_id: str, at: datetime) -> None:
    """Let a key end at that time, or earlier when it would have."""
    await work.run(_EXPIRE, {"id": key_id, "at": at})


async def revoke(work: UnitOfWork, key_id: str, at: datetime) -> None:
    """End a key now."""
    await work.run(_REVOKE, {"id": key_id, "at": at})


def _person(row: Row[Any]) -> Person:
    return Person(PersonId(row.id), row.handle, Role(row.role), row.created_at, row.disabled_at)


def _key(row: Row[Any]) -> Key:
    return Key(
        KeyId(row.id),
        row.handle or f"machine:{row.machine}",
        row.person_id,
        None if row.scopes is None else tuple(Permission(one) for one in row.scopes),
        row.created_by,
        row.created_at,
        row.expires_at,
        row.revoked_at,
    )
