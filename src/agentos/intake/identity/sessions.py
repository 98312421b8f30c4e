"""Sign in with a password, and the session that it opens, for people in a browser.

A session is known by a random secret in a cookie. What it may do is the person's role at each request, so a role that
is taken away, a person who is disabled and a password that is changed bind at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from agentos.intake.identity import store
from agentos.intake.identity.model import Caller, PasswordRefused, Role, SignedIn, SignedOut, Unauthorized
from agentos.intake.identity.service import Shown, person
from agentos.kernel import ids
from agentos.kernel.database import Database
from agentos.kernel.ids import KeyId, OrgId, PersonId, SessionId
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import Doors, UnitOfWork

COOKIE: Final = "agentos_session"
LASTS: Final = timedelta(hours=12)  # a working day; whoever is on call at night signs in for the night
KEPT: Final = Retention("sessions_forget", timedelta(days=7))  # meanwhile it is told as expired, not as unknown
LEAST_PASSWORD: Final = 12  # characters; length is what makes a password hard to guess (NIST SP 800-63B)
MOST_PASSWORD: Final = 256
AT_ONCE: Final = 2  # checks of a process: each takes 64 MiB and a core for some 50 ms, on purpose

_hasher: Final = PasswordHasher()  # argon2id with the library's parameters, which are RFC 9106's for little memory
_threads: Final = ThreadPoolExecutor(AT_ONCE, "passwords")
# Checked where there is no such person, or one without a password, so that an answer's time tells nothing.
_nobodys: Final = _hasher.hash(secrets.token_urlsafe(16))


@dataclass(frozen=True, slots=True)
class Session:
    """A session that was just opened. Its secret is told here once and kept as a hash."""

    id: SessionId
    secret: str
    handle: str
    expires_at: datetime


async def set_password(work: UnitOfWork, handle: str, password: str, *, by: str, at: datetime) -> None:
    """Give a person another password; their sessions end.

    Raises PersonUnknown (NotFound), PasswordRefused (Invalid).
    """
    if not LEAST_PASSWORD <= len(password) <= MOST_PASSWORD:
        raise PasswordRefused(
            f"a password has {LEAST_PASSWORD} to {MOST_PASSWORD} characters", where="password", then="Take a sentence."
        )
    found = await person(work, handle)
    hashed = await asyncio.get_running_loop().run_in_executor(_threads, _hasher.hash, password)
    await store.set_password(work, found.id, hashed)
    await store.end_sessions(work, found.id, at)
    await work.publish(SignedOut(found.id, "every session: the password changed", by))


async def sign_in(doors: Doors, organization: OrgId, handle: str, password: str, *, at: datetime) -> Session:
    """Open a session. Raises Unauthorized (401), in the same time and words whatever is wrong."""
    async with doors.open(organization) as work:
        known = await store.password_of(work, handle)
    stored = known[1] if known is not None and known[1] else _nobodys
    right = await asyncio.get_running_loop().run_in_executor(_threads, _matches, stored, password[:MOST_PASSWORD])
    if known is None or not known[1] or not right:
        raise Unauthorized("no such person, or another password", then="Ask an admin to set a password.")
    async with doors.open(organization) as work:
        return await _opened(work, known[0], handle, at)


async def open_for(doors: Doors, organization: OrgId, handle: str, *, at: datetime) -> Session:
    """Open a session for somebody whom a provider vouches for. Raises Unauthorized (401) for who is none of ours."""
    async with doors.open(organization) as work:
        known = await store.password_of(work, handle)
        if known is None:
            raise Unauthorized(f"'{handle}' is nobody here", then="Ask an admin to add you.")
        return await _opened(work, known[0], handle, at)


async def _opened(work: UnitOfWork, person_id: PersonId, handle: str, at: datetime) -> Session:
    session = Session(SessionId(ids.new("ses")), secrets.token_urlsafe(32), handle, at + LASTS)
    await store.add_session(work, session.id, person_id, _hash(session.secret), session.expires_at)
    await work.publish(SignedIn(person_id, session.id, handle))
    return session


async def sign_out(work: UnitOfWork, caller: Caller, *, at: datetime) -> None:
    """End the session that the caller came with. A key is not ended by this."""
    if caller.person_id is not None and await store.end_session(work, caller.key_id, at):
        await work.publish(SignedOut(caller.person_id, caller.key_id, caller.handle))


async def shown_by_session(database: Database, secret: str) -> Shown:
    """What the secret of a session shows. Raises DatabaseUnavailable."""
    row = await store.session_holder(database, _hash(secret)) if len(secret) <= 100 else None
    if row is None:
        return Shown(None, "unknown_session")
    refused = "ended_session" if row["ended"] else "expired_session" if row["expired"] else ""
    refused = refused or ("disabled_person" if row["disabled"] else "")
    whose = (refused, OrgId(row["org"]), row["session_id"], row["handle"])
    if refused:
        return Shown(None, *whose)
    permissions = Role(row["role"]).permissions
    caller = Caller(OrgId(row["org"]), PersonId(row["person_id"]), row["handle"], KeyId(row["session_id"]), permissions)
    return Shown(caller, *whose)


def _matches(stored: str, password: str) -> bool:
    try:
        return _hasher.verify(stored, password)
    except (VerificationError, InvalidHashError):
        return False


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()
