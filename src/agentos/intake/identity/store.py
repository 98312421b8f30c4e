"""Organizations, people and keys in the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.intake.identity.model import Key, Permission, Person, Role
from agentos.kernel.database import Database
from agentos.kernel.ids import KeyId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork

# One row for every hash, also for one that nobody holds, because statements share their round trips.
_HOLDER: Final = "SELECT h.* FROM (SELECT 1) one LEFT JOIN key_holder($1) h ON true"
_SESSION_HOLDER: Final = "SELECT h.* FROM (SELECT 1) one LEFT JOIN session_holder($1) h ON true"
_PASSWORD_OF: Final = text("SELECT id, password FROM people WHERE handle = :handle AND disabled_at IS NULL")
_SET_PASSWORD: Final = text("UPDATE people SET password = :password WHERE id = :id")  # no password
_ADD_SESSION: Final = text(
    "INSERT INTO sessions (org, id, person_id, hash, expires_at) VALUES (:org, :id, :person_id, :hash, :expires_at)"
)
_END_SESSION: Final = text("UPDATE sessions SET ended_at = :at WHERE id = :id AND ended_at IS NULL")
_END_SESSIONS: Final = text("UPDATE sessions SET ended_at = :at WHERE person_id = :person_id AND ended_at IS NULL")
_FOUND: Final = text("SELECT organization_found(:org, :name, :by)")
_ORGANIZATIONS: Final = text("SELECT * FROM organizations_all()")
_ORGANIZATION: Final = text("SELECT org, name, created_at FROM organizations")
_PEOPLE: Final = text("SELECT * FROM people WHERE handle > :after ORDER BY handle LIMIT :most")
_PERSON: Final = text("SELECT * FROM people WHERE handle = :handle FOR UPDATE")
_BY_ID: Final = text("SELECT * FROM people WHERE id = :id")
_OF_ROLES: Final = text(
    "SELECT * FROM people WHERE role = ANY(:roles) AND disabled_at IS NULL ORDER BY handle LIMIT :most"
)
_SEEN: Final = text("SELECT * FROM people WHERE handle = :handle")
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


async def session_holder(database: Database, hashed: bytes) -> Mapping[str, Any] | None:
    """Whose session has this hash, as the database knows it now; in one round trip, as the system role."""
    row = await database.lookups.row(_SESSION_HOLDER, hashed)
    return None if row["org"] is None else row


async def password_of(work: UnitOfWork, handle: str) -> tuple[PersonId, str | None] | None:
    """A person who may act, and the hash of their password."""
    row = await work.first(_PASSWORD_OF, {"handle": handle})
    return (PersonId(row.id), row.password) if row else None


async def set_password(work: UnitOfWork, person_id: PersonId, hashed: str) -> None:
    """Set the hash of a person's password."""
    await work.run(_SET_PASSWORD, {"id": person_id, "password": hashed})


async def add_session(
    work: UnitOfWork, session_id: str, person_id: PersonId, hashed: bytes, expires_at: datetime
) -> None:
    """Add a session by the hash of its secret."""
    values = {"org": work.organization, "id": session_id, "person_id": person_id, "hash": hashed}
    await work.run(_ADD_SESSION, values | {"expires_at": expires_at})


async def end_session(work: UnitOfWork, session_id: str, at: datetime) -> bool:
    """End a session; False when there is none that goes on."""
    return bool(await work.run(_END_SESSION, {"id": session_id, "at": at}))


async def end_sessions(work: UnitOfWork, person_id: PersonId, at: datetime) -> None:
    """End every session of a person."""
    await work.run(_END_SESSIONS, {"person_id": person_id, "at": at})


async def holder(database: Database, hashed: bytes) -> Mapping[str, Any] | None:
    """Who holds the key with this hash, as the database knows it now; in one round trip, as the system role."""
    row = await database.lookups.row(_HOLDER, hashed)
    return None if row["org"] is None else row


async def found(connection: AsyncConnection, organization: OrgId, name: str, by: str) -> bool:
    """Found an organization, and say so; as the system role. True when it is new."""
    return bool((await connection.execute(_FOUND, {"org": organization, "name": name, "by": by})).scalar_one())


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


async def by_id(work: UnitOfWork, person_id: str) -> Person | None:
    """The person of that id."""
    row = await work.first(_BY_ID, {"id": person_id})
    return _person(row) if row else None


async def of_roles(work: UnitOfWork, roles: list[str], most: int) -> list[Person]:
    """People of these roles who may act, by handle."""
    return [_person(row) for row in await work.all(_OF_ROLES, {"roles": roles, "most": most})]


async def seen(work: UnitOfWork, handle: str) -> Person | None:
    """The person of that handle, not locked."""
    row = await work.first(_SEEN, {"handle": handle})
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
