"""Found organizations, keep their people and keys, and tell who comes with one."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from agentos.intake.identity import store
from agentos.intake.identity.model import (
    LONGEST_KEY,
    LONGEST_OVERLAP,
    MACHINE_KEY_LASTS,
    PEOPLE_ONLY,
    ROLES,
    BadKeyRequest,
    Caller,
    Key,
    KeyClosed,
    KeyCreated,
    KeyRevoked,
    KeyUnknown,
    LastAdmin,
    NotAllowed,
    Permission,
    Person,
    PersonAdded,
    PersonChanged,
    PersonKnown,
    PersonUnknown,
    Role,
)
from agentos.kernel import ids
from agentos.kernel.database import Database
from agentos.kernel.ids import KeyId, OrgId, PersonId
from agentos.kernel.unit_of_work import UnitOfWork

KEY_PREFIX: Final = "aos_"  # so that a leaked key is recognised by scanners
OPERATOR: Final = "operator"  # whoever is at the machine, with the database's login
MOST_KEY_LENGTH: Final = 100  # of what is taken for a key at all; ours have 47 characters


@dataclass(frozen=True, slots=True)
class Shown:
    """What a key shows: who holds it, or why it opens nothing, and whose it was where that is known."""

    caller: Caller | None
    refused: str = ""  # unknown_key | revoked_key | expired_key | disabled_person
    organization: OrgId | None = None
    key_id: str = ""
    holder: str = ""


async def found_organization(database: Database, organization: OrgId, *, name: str, by: str = OPERATOR) -> bool:
    """Make sure that the organization exists. True when it is new. Raises MalformedId (Invalid)."""
    ids.checked_name(organization, what="organization")
    async with database.connection("agentos_system") as connection:
        return await store.found(connection, organization, name, by)


async def organizations(database: Database) -> list[dict[str, Any]]:
    """Every organization, for the operator at the machine; no route leads here."""
    async with database.connection("agentos_system") as connection:
        return [dict(row._mapping) for row in await store.organizations(connection)]


async def organization(work: UnitOfWork) -> dict[str, Any]:
    """The organization of this unit of work."""
    row = await store.organization(work)
    assert row is not None, "a caller's organization exists"
    return dict(row._mapping)


async def shown_by(database: Database, secret: str) -> Shown:
    """What this key shows. Raises DatabaseUnavailable.

    The look-up is by the SHA-256 of a random 256-bit secret, so its timing tells nothing that helps to guess a key.
    """
    if not secret.startswith(KEY_PREFIX) or len(secret) > MOST_KEY_LENGTH:
        return Shown(None, "unknown_key")
    row = await store.holder(database, _hash(secret))
    if row is None:
        return Shown(None, "unknown_key")
    holder = row["handle"] or f"machine:{row['machine']}"
    refused = "revoked_key" if row["revoked"] else "expired_key" if row["expired"] else ""
    refused = refused or ("disabled_person" if row["disabled"] else "")
    whose = (refused, OrgId(row["org"]), row["key_id"], holder)
    if refused:
        return Shown(None, *whose)
    scopes = None if row["scopes"] is None else frozenset(Permission(one) for one in row["scopes"])
    allowed = frozenset(scopes or ()) if row["role"] is None else Role(row["role"]).permissions
    permissions = allowed if scopes is None else allowed & scopes
    return Shown(Caller(OrgId(row["org"]), row["person_id"], holder, KeyId(row["key_id"]), permissions), *whose)


async def people(work: UnitOfWork, *, after: str, most: int) -> list[Person]:
    """People by handle."""
    return await store.people(work, after, most)


async def person(work: UnitOfWork, handle: str) -> Person:
    """The person of that handle, locked. Raises PersonUnknown (NotFound)."""
    found = await store.person(work, handle)
    if found is None:
        raise PersonUnknown(f"no person '{handle[:63]}'", then="See 'agentos people list'.")
    return found


async def acting(work: UnitOfWork, person_id: str) -> Person | None:
    """The person of that id, if they may act."""
    found = await store.by_id(work, person_id)
    return None if found is None or found.disabled_at is not None else found


async def who_may(work: UnitOfWork, permission: Permission, *, most: int) -> list[Person]:
    """People whose role allows this and who may act, by handle."""
    roles = [role.value for role, allowed in ROLES.items() if permission in allowed]
    return await store.of_roles(work, roles, most)


async def seen(work: UnitOfWork, handle: str) -> Person | None:
    """The person of that handle as it is, not locked."""
    return await store.seen(work, handle)


async def add_person(work: UnitOfWork, handle: str, role: Role, *, by: str) -> Person:
    """Add a person. Raises MalformedId (Invalid), PersonKnown (Conflict)."""
    ids.checked_name(handle, what="handle")
    if await store.person(work, handle) is not None:
        raise PersonKnown(f"there is a person '{handle}' already", then="Choose another handle.")
    person_id = PersonId(ids.new("person"))
    await store.add_person(work, person_id, handle, role)
    await work.publish(PersonAdded(person_id, handle, role.value, by))
    return await person(work, handle)


async def change_person(
    work: UnitOfWork, handle: str, *, role: Role | None, enabled: bool | None, by: str, at: datetime
) -> Person:
    """Give a person another role, or withdraw or restore their right to act; it binds their next request.

    Raises PersonUnknown (NotFound), LastAdmin (Conflict).
    """
    admins = await store.admins(work)
    found = await person(work, handle)
    becomes = role or found.role
    acts = found.disabled_at is None if enabled is None else enabled
    if admins == [found.id] and not (becomes is Role.ADMIN and acts):
        raise LastAdmin(f"'{handle}' is the last admin who may act", then="Make another person an admin first.")
    await store.change_person(work, found.id, becomes, None if acts else found.disabled_at or at)
    await work.publish(PersonChanged(found.id, handle, becomes.value, acts, by))
    return await person(work, handle)


async def keys(work: UnitOfWork, *, after: str, most: int) -> list[Key]:
    """Keys, oldest first, also those that are closed."""
    return await store.keys(work, after, most)


async def create_key(
    work: UnitOfWork,
    *,
    handle: str | None,
    machine: str | None,
    scopes: Iterable[Permission] | None,
    lasts: timedelta | None,
    by: str,
    at: datetime,
) -> tuple[Key, str]:
    """Make a key for a person or for a machine; the key and its secret, which is returned here once and kept as a hash.

    A machine's key has scopes of its own, never those that take a person, and ends after 90 days unless ``lasts`` says
    otherwise. Raises PersonUnknown (NotFound), BadKeyRequest or MalformedId (Invalid).
    """
    narrowed = None if scopes is None else tuple(sorted(set(scopes)))
    if (handle is None) == (machine is None):
        raise BadKeyRequest("a key is for one person or for one machine", then="Name either.")
    if machine is not None:
        ids.checked_name(machine, what="machine")
        if not narrowed:
            raise BadKeyRequest("a machine's key names its scopes", where="scopes", then="See 'agentos keys scopes'.")
        if over := PEOPLE_ONLY & set(narrowed):
            raise BadKeyRequest(
                f"no machine may have the scope '{min(over)}'", where="scopes", then="A person answers for it."
            )
        lasts = lasts or MACHINE_KEY_LASTS
    if lasts is not None and not timedelta() < lasts <= LONGEST_KEY:
        raise BadKeyRequest(f"a key lasts {LONGEST_KEY.days} days at most", where="lasts", then="Rotate it in time.")
    holder = None if handle is None else await person(work, handle)
    return await _add_key(
        work,
        person_id=None if holder is None else holder.id,
        machine=machine,
        scopes=narrowed,
        expires_at=None if lasts is None else at + lasts,
        replaces="",
        by=by,
    )


async def rotate_key(
    work: UnitOfWork, key_id: str, *, overlap: timedelta, caller: Caller, at: datetime
) -> tuple[Key, str]:
    """Make a key that follows another, with its holder, scopes and length of life; the old one ends after ``overlap``.

    Everybody may rotate their own. Raises KeyUnknown (NotFound), KeyClosed (Conflict), NotAllowed (Forbidden),
    BadKeyRequest (Invalid).
    """
    if not timedelta() <= overlap <= LONGEST_OVERLAP:
        raise BadKeyRequest(f"keys overlap {LONGEST_OVERLAP.days} days at most", where="overlap")
    old = await _own_key(work, key_id, caller)
    if old.closed(at):
        raise KeyClosed("the key opens nothing any more", where=key_id, then="Create a new one.")
    await store.expire(work, key_id, at + overlap)
    lasted = None if old.expires_at is None else old.expires_at - old.created_at
    return await _add_key(
        work,
        person_id=old.person_id,
        machine=None if old.person_id else old.holder.removeprefix("machine:"),
        scopes=old.scopes,
        expires_at=None if lasted is None else at + lasted,
        replaces=key_id,
        by=caller.handle,
    )


async def revoke_key(work: UnitOfWork, key_id: str, *, caller: Caller, at: datetime) -> None:
    """Close a key: its next request is refused. Doing it again changes nothing.

    Raises KeyUnknown (NotFound), NotAllowed (Forbidden).
    """
    found = await _own_key(work, key_id, caller)
    if found.revoked_at is None:
        await store.revoke(work, key_id, at)
        await work.publish(KeyRevoked(key_id, found.holder, caller.handle))


def permit(caller: Caller, wanted: Iterable[Permission]) -> None:
    """Nobody gives away what they do not have. Raises NotAllowed (Forbidden)."""
    if over := set(wanted) - caller.permissions:
        raise NotAllowed(f"you may not give '{min(over)}' away", then="Only who has a permission can pass it on.")


async def _own_key(work: UnitOfWork, key_id: str, caller: Caller) -> Key:
    found = await store.key(work, key_id)
    mine = found is not None and found.holder == caller.handle
    if found is None or not (mine or Permission.CHANGE_IDENTITY in caller.permissions):
        raise KeyUnknown(f"no key '{key_id[:64]}'", then="See 'agentos keys list'.")
    return found


async def _add_key(
    work: UnitOfWork,
    *,
    person_id: PersonId | None,
    machine: str | None,
    scopes: tuple[Permission, ...] | None,
    expires_at: datetime | None,
    replaces: str,
    by: str,
) -> tuple[Key, str]:
    secret, key_id = KEY_PREFIX + secrets.token_urlsafe(32), KeyId(ids.new("key"))
    written = None if scopes is None else [one.value for one in scopes]
    values = {"id": key_id, "person_id": person_id, "machine": machine, "hash": _hash(secret), "scopes": written}
    await store.add_key(work, {**values, "expires_at": expires_at, "created_by": by})
    key = await store.key(work, key_id)
    assert key is not None
    await work.publish(KeyCreated(key_id, key.holder, written, replaces, by))
    return key, secret


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
