"""Found organizations, give people keys, and tell who comes with one."""

from __future__ import annotations

import hashlib
import secrets
from typing import Final

from agentos.intake.identity import store
from agentos.intake.identity.model import Caller, Unauthorized
from agentos.kernel import ids
from agentos.kernel.database import Database
from agentos.kernel.ids import KeyId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork

KEY_PREFIX: Final = "aos_"  # so that a leaked key is recognised by scanners


async def found_organization(database: Database, organization: OrgId, *, name: str) -> bool:
    """Make sure that the organization exists. True when it is new. Raises MalformedId (Invalid)."""
    ids.checked_name(organization, what="organization")
    async with database.connection("agentos_system") as connection:
        return await store.found(connection, organization, name)


async def give_key(work: UnitOfWork, handle: str) -> str:
    """Make sure that the person exists and give them a new key. The key is returned here once and stored as a hash."""
    ids.checked_name(handle, what="handle")
    person_id = await store.person(work, handle)
    if person_id is None:
        person_id = PersonId(ids.new("person"))
        await store.add_person(work, person_id, handle)
    key = KEY_PREFIX + secrets.token_urlsafe(32)
    await store.add_key(work, KeyId(ids.new("key")), person_id, _hash(key))
    return key


async def caller_of(database: Database, key: str) -> Caller:
    """Who holds this key. Raises Unauthorized (Forbidden, 401).

    The look-up is by the SHA-256 of a random 256-bit secret, so its timing tells nothing that helps to guess a key.
    """
    if not key.startswith(KEY_PREFIX) or len(key) > 100:
        raise _unauthorized()
    async with database.connection("agentos_system") as connection:
        caller = await store.holder(connection, _hash(key))
    if caller is None:
        raise _unauthorized()
    return caller


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _unauthorized() -> Unauthorized:
    return Unauthorized("this needs a valid key", then="Send 'Authorization: Bearer KEY'.")
