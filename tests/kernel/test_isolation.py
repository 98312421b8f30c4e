"""Row-level security binds the application role in every table of an organization, whatever SQL it runs."""

from __future__ import annotations

import asyncpg
import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import ProgrammingError

from agentos.apps.api.health import role_check
from agentos.apps.bootstrap import give_key
from agentos.intake.identity import service as identity
from agentos.intake.identity.model import Role
from agentos.kernel.database import Database
from agentos.kernel.ids import OrgId
from agentos.kernel.unit_of_work import Doors

INBOX = ("inbox_threads", "inbox_messages", "people_addresses", "slack_workspaces", "notifications")
NOT_OF_AN_ORGANIZATION = {"migrations", "outbox_cursors", "outbox_failures"}


async def tables(database: Database) -> list[tuple[str, bool, bool]]:
    async with database.connection("agentos_app") as connection:
        rows = await connection.execute(
            text(
                "SELECT relname, relrowsecurity, relforcerowsecurity FROM pg_class "
                "WHERE relnamespace = 'agentos'::regnamespace AND relkind = 'r' ORDER BY 1"
            )
        )
        return [tuple(row) for row in rows.all()]


async def test_every_table_of_an_organization_forces_row_level_security(database: Database) -> None:
    found = await tables(database)
    assert len(found) > 15
    open_tables = {name for name, enabled, forced in found if not (enabled and forced)}
    assert open_tables == NOT_OF_AN_ORGANIZATION


async def test_without_an_organization_there_are_no_rows(doors: Doors, database: Database, organization: OrgId) -> None:
    async with doors.open(organization) as work:
        await give_key(work, "someone", Role.VIEWER)
    async with database.connection("agentos_app") as connection:
        for table in (
            "organizations",
            "people",
            "keys",
            "runs",
            "journal",
            "outbox",
            "subscriptions",
            "deliveries",
            *INBOX,
            "privacy_rules",
            "approval_routing",
            "approval_links",
        ):
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0


async def test_another_organizations_rows_cannot_be_read_changed_or_written(
    doors: Doors, database: Database, organization: OrgId
) -> None:
    other = OrgId(organization + "_b")
    await identity.found_organization(database, other, name="Other")
    async with doors.open(other) as work:
        await give_key(work, "victim", Role.VIEWER)
    async with doors.open(organization) as work:
        assert await work.all(text("SELECT * FROM people WHERE org = :other"), {"other": other}) == []
        assert await work.run(text("UPDATE keys SET revoked_at = now() WHERE org = :other"), {"other": other}) == 0
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with doors.open(organization) as work:
            await work.run(
                text("INSERT INTO people (org, id, handle) VALUES (:other, 'x', 'intruder')"), {"other": other}
            )


async def test_the_application_role_cannot_rewrite_what_happened(doors: Doors, organization: OrgId) -> None:
    for statement in (
        "UPDATE journal SET status = 'x'",
        "DELETE FROM journal",
        "DELETE FROM outbox",
        "DELETE FROM approvals",
        "UPDATE versions SET definition = '{}'",
        "DELETE FROM runs",
        "TRUNCATE journal",
    ):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with doors.open(organization) as work:
                await work.run(text(statement))


async def test_nothing_competes_with_the_key_that_finds_a_run(database: Database) -> None:
    """A second index that begins with the organization is taken for the key while PostgreSQL knows no statistics."""
    async with database.connection("agentos_app") as connection:
        rows = await connection.execute(
            text(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE indrelid = 'agentos.runs'::regclass "
                "AND NOT indisprimary AND pg_get_indexdef(indexrelid, 1, true) = 'org'"
            )
        )
        assert rows.all() == []


async def test_the_application_role_cannot_move_a_global_epoch(doors: Doors, organization: OrgId) -> None:
    with pytest.raises(ProgrammingError, match="row-level security"):
        async with doors.open(organization) as work:
            await work.run(text("UPDATE epochs SET value = value + 1 WHERE org = '*'"))


async def test_the_system_role_reads_no_table(database: Database) -> None:
    for table in ("runs", "keys", "outbox", "journal", "organizations"):
        with pytest.raises(ProgrammingError, match="permission denied"):
            async with database.connection("agentos_system") as connection:
                await connection.execute(text(f"SELECT * FROM {table}"))


async def test_readiness_names_a_role_that_row_level_security_would_not_bind(database: Database) -> None:
    assert await role_check(database) == {"role": "agentos_app"}


async def test_the_login_role_by_itself_sees_nothing(database_url: str) -> None:
    plain = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    try:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.fetch("SELECT * FROM agentos.runs")
    finally:
        await connection.close()
