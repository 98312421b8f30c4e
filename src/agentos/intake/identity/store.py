"""Organizations, people and keys in the database."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.intake.identity.model import Caller
from agentos.kernel.ids import KeyId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork

_HOLDER: Final = text("SELECT * FROM key_holder(:hash)")
_FOUND: Final = text("SELECT organization_found(:org, :name)")
_PERSON: Final = text("SELECT id FROM people WHERE handle = :handle")
_ADD_PERSON: Final = text("INSERT INTO people (org, id, handle) VALUES (:org, :id, :handle)")
_ADD_KEY: Final = text("INSERT INTO keys (org, id, person_id, hash) VALUES (:org, :id, :person_id, :hash)")


async def holder(connection: AsyncConnection, hashed: bytes) -> Caller | None:
    """Who holds the key with this hash; as the system role."""
    row = (await connection.execute(_HOLDER, {"hash": hashed})).first()
    if row is None:
        return None
    return Caller(OrgId(row.org), PersonId(row.person_id), row.handle, KeyId(row.key_id))


async def found(connection: AsyncConnection, organization: OrgId, name: str) -> bool:
    """Found an organization; as the system role. True when it is new."""
    return bool((await connection.execute(_FOUND, {"org": organization, "name": name})).scalar_one())


async def person(work: UnitOfWork, handle: str) -> PersonId | None:
    """The person of that handle."""
    row = await work.first(_PERSON, {"handle": handle})
    return PersonId(row.id) if row else None


async def add_person(work: UnitOfWork, person_id: PersonId, handle: str) -> None:
    """Add a person."""
    await work.run(_ADD_PERSON, {"org": work.organization, "id": person_id, "handle": handle})


async def add_key(work: UnitOfWork, key_id: KeyId, person_id: PersonId, hashed: bytes) -> None:
    """Add a key by its hash."""
    await work.run(_ADD_KEY, {"org": work.organization, "id": key_id, "person_id": person_id, "hash": hashed})
