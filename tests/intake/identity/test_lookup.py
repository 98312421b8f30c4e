"""Keys that are looked up together are each found for what they are."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from agentos.apps.bootstrap import give_key
from agentos.intake.identity import service
from agentos.intake.identity.model import Role
from agentos.kernel.clock import now
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors


async def test_each_of_many_that_come_at_once_is_taken_for_who_they_are(database: Database, doors: Doors) -> None:
    whose: dict[str, str | None] = {f"aos_{uuid.uuid4().hex}": None for _ in range(40)}
    for number in range(10):
        organization = OrgId(f"o{uuid.uuid4().hex[:12]}")
        await service.found_organization(database, organization, name=f"Number {number}")
        async with doors.open(organization) as work:
            whose[await give_key(work, "admin", Role.ADMIN)] = organization
    asked = sorted(list(whose) * 5)
    found = await asyncio.gather(*(service.shown_by(database, secret) for secret in asked))
    assert [one.organization for one in found] == [whose[secret] for secret in asked]
    assert [one.refused for one in found] == ["" if whose[secret] else "unknown_key" for secret in asked]


async def test_a_key_is_asked_for_anew_each_time(database: Database, doors: Doors, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        secret = await give_key(work, "admin", Role.ADMIN)
    caller = (await service.shown_by(database, secret)).caller
    assert caller is not None
    async with doors.open(organization) as work:
        await service.revoke_key(work, caller.key_id, caller=caller, at=now())
    assert (await service.shown_by(database, secret)).refused == "revoked_key"


async def test_a_look_up_is_one_statement_in_one_round_trip(
    database: Database, doors: Doors, organization: OrgId, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with doors.open(organization) as work:
        secret = await give_key(work, "admin", Role.ADMIN)
    await service.shown_by(database, secret)  # connects, and prepares the statement
    pool = await database.driver("agentos_system")
    said: list[Any] = []
    connections = [await pool.acquire() for _ in range(pool.get_size())]
    for connection in connections:
        connection._con.add_query_logger(said.append)
        await pool.release(connection)
    assert (await service.shown_by(database, secret)).caller is not None
    assert [one.query.split()[0] for one in said if isinstance(one.query, str)] == ["SELECT"]


async def test_the_look_up_may_read_no_table(database: Database) -> None:
    pool = await database.driver("agentos_system")
    async with pool.acquire() as connection:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM keys")


async def test_the_first_fact_of_an_organization_is_that_it_was_founded(database: Database, doors: Doors) -> None:
    organization = OrgId(f"o{uuid.uuid4().hex[:12]}")
    assert await service.found_organization(database, organization, name="Mine", by="ada")
    assert not await service.found_organization(database, organization, name="Mine", by="eve")
    async with doors.open(organization) as work:
        rows = await work.all(text("SELECT name, key, body FROM outbox"))
    assert [tuple(row) for row in rows] == [
        ("OrganizationFounded", organization, {"organization": organization, "by": "ada"})
    ]
