"""postgres_query against a real PostgreSQL: it reads, within limits, and nothing else."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from agentos.adapters.skills.postgres_query import (
    ALL_BYTES,
    ROW_BYTES,
    DatabaseAddressMalformed,
    DatabaseRoleTooStrong,
    QueriedDatabaseUnavailable,
    QueryForbidden,
    QueryRefused,
    QueryTooSlow,
    RowTooLarge,
)
from agentos.kernel.errors import AgentOSError
from agentos.runtime.skills.model import ArgumentsRefused
from tests.adapters.skills.conftest import Use

PASSWORD = "only-to-read"

Query = Callable[..., Awaitable[Any]]


@dataclass
class Store:
    """A schema of its own, with a role that may read its table."""

    name: str
    url: str
    superuser_url: str
    superuser: asyncpg.Connection[Any]

    async def count(self) -> int:
        return int(await self.superuser.fetchval(f"SELECT count(*) FROM {self.name}.orders"))


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    name = f"q{uuid.uuid4().hex[:12]}"
    database = make_url(database_url).database
    url = make_url(os.environ["AGENTOS_TEST_SUPERUSER_URL"]).set(database=database)
    superuser_url = url.render_as_string(hide_password=False)
    superuser = await asyncpg.connect(superuser_url)
    await superuser.execute(f"""
        CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}';
        CREATE SCHEMA {name};
        CREATE TABLE {name}.orders (id bigint PRIMARY KEY, customer text, total numeric, placed timestamptz, doc jsonb);
        INSERT INTO {name}.orders SELECT n, 'c' || n % 3, n * 1.1, '2026-11-21T00:00:00Z', '{{"n": 1}}'
          FROM generate_series(1, 500) n;
        CREATE TABLE {name}.secrets (value text);
        CREATE SEQUENCE {name}.counter;
        CREATE FUNCTION {name}.sneaky() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS
          $$ BEGIN DELETE FROM {name}.orders; RETURN 1; END $$;
        GRANT USAGE ON SCHEMA {name} TO {name};
        GRANT SELECT ON {name}.orders TO {name};
    """)
    reader = url.set(username=name, password=PASSWORD).render_as_string(hide_password=False)
    yield Store(name, reader, superuser_url, superuser)
    await superuser.execute(f"DROP SCHEMA {name} CASCADE; DROP OWNED BY {name}; DROP ROLE {name};")
    await superuser.close()


@pytest.fixture
def query(use: Use, store: Store) -> Query:
    async def call(text: str, *parameters: Any, **more: Any) -> Any:
        given = {"with_secret": lambda _name: store.url} | more
        words = {"database": "secret://shop", "query": text.replace("{s}", store.name), "parameters": list(parameters)}
        return await use("postgres_query", **words | given)

    return call


async def test_rows_come_by_name_with_bound_parameters(query: Query) -> None:
    found = await query(
        "SELECT id, customer, total, placed, doc FROM {s}.orders WHERE id = $1 AND customer = $2 AND placed < $3",
        3,
        "c0",
        "2026-12-01",
    )
    row = {"id": 3, "customer": "c0", "total": 3.3, "placed": "2026-11-21T00:00:00+00:00", "doc": {"n": 1}}
    assert found["count"] == 1
    assert found["truncated"] is False
    (shown,) = found["rows"]
    assert shown | {"placed": row["placed"]} == row


async def test_a_parameter_is_a_value_and_never_text_of_the_query(query: Query, store: Store) -> None:
    hostile = f"x'; DELETE FROM {store.name}.orders; --"
    assert (await query("SELECT $1::text AS said", hostile))["rows"] == [{"said": hostile}]
    assert (await query("SELECT id FROM {s}.orders WHERE customer = $1", hostile))["rows"] == []
    assert await store.count() == 500


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9007199254740993::bigint", "9007199254740993"),
        ("9007199254740991::bigint", 9007199254740991),
        ("0.1::numeric", 0.1),
        ("0.12345678901234567890::numeric", "0.12345678901234567890"),
        ("'NaN'::float8", "NaN"),
        ("NULL", None),
        ("ARRAY[1, 2]", [1, 2]),
        ("true", True),
        ("'\\x00ff'::bytea", "\\x00ff"),
        ("interval '1 hour'", "01:00:00"),
    ],
)
async def test_values_keep_their_exact_value(query: Query, text: str, value: Any) -> None:
    assert (await query(f"SELECT {text} AS v"))["rows"] == [{"v": value}]


@pytest.mark.parametrize("text", ["SELECT 1 AS n;", "VALUES (1)", "WITH a AS (SELECT 1 AS n) TABLE a", "SELECT 1 -- n"])
async def test_every_form_of_a_query_is_taken(query: Query, text: str) -> None:
    assert (await query(text))["count"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO {s}.orders (id) VALUES (1000)",
        "UPDATE {s}.orders SET total = 0",
        "DELETE FROM {s}.orders",
        "WITH gone AS (DELETE FROM {s}.orders RETURNING id) SELECT * FROM gone",
        "SELECT 1; DELETE FROM {s}.orders",
        "SELECT 1; COMMIT; DELETE FROM {s}.orders",
        "COMMIT",
        "SELECT 1) q; DELETE FROM {s}.orders; SELECT (1",
        "SELECT 1) q UNION ALL SELECT repeat('x', 900000000) FROM (SELECT 1",
        "SELECT 1 /*",
        "SELECT * FROM {s}.orders FOR UPDATE",
        "SELECT nextval('{s}.counter')",
        "SELECT setval('{s}.counter', 7)",
        "SELECT {s}.sneaky()",
        "SELECT set_config('transaction_read_only', 'off', true), {s}.sneaky()",
        "SET transaction_read_only = off",
        "SET ROLE agentos_owner",
        "COPY (SELECT 1) TO PROGRAM 'touch /tmp/owned'",
        "COPY {s}.orders TO STDOUT",
        "DO $$ BEGIN DELETE FROM {s}.orders; END $$",
        "CALL nothing()",
        "CREATE TEMP TABLE t (n int)",
        "SELECT 1 INTO t",
        "LISTEN channel",
        "EXPLAIN ANALYZE DELETE FROM {s}.orders",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT pg_ls_dir('/')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT lo_create(0)",
        "SELECT * FROM {s}.secrets",
        "SELECT rolpassword FROM pg_authid",
        "SELECT pg_reload_conf()",
        "TABLE {s}.orders; ",
        "nonsense",
    ],
)
async def test_what_is_no_read_is_refused_and_changes_nothing(query: Query, store: Store, text: str) -> None:
    if text.startswith("TABLE"):
        assert (await query(text))["truncated"]
        return
    with pytest.raises((QueryRefused, QueryForbidden)):
        await query(text)
    assert await store.count() == 500
    assert not Path("/tmp/owned").exists()
    assert await store.superuser.fetchval(f"SELECT last_value FROM {store.name}.counter") == 1


async def test_a_sleep_is_cut(query: Query) -> None:
    with pytest.raises(QueryTooSlow, match=r"did not end within 0\.3 s"):
        await query("SELECT pg_sleep(30)", timeout_seconds=0.3)


async def test_a_query_cannot_give_itself_more_time(query: Query) -> None:
    with pytest.raises(QueryTooSlow):
        await query(
            "SELECT set_config('statement_timeout', '0', false), pg_sleep(n * 0.02) FROM generate_series(1, 999) n",
            timeout_seconds=0.5,
            max_rows=1000,
        )


async def test_a_lock_is_not_waited_for(query: Query, store: Store) -> None:
    async with store.superuser.transaction():
        await store.superuser.execute(f"LOCK TABLE {store.name}.orders IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(QueryTooSlow):
            await query("SELECT * FROM {s}.orders", timeout_seconds=0.3)


async def test_rows_are_cut_with_a_mark(query: Query) -> None:
    found = await query("SELECT id FROM {s}.orders ORDER BY id", max_rows=7)
    assert ([one["id"] for one in found["rows"]], found["count"], found["truncated"]) == (
        [1, 2, 3, 4, 5, 6, 7],
        7,
        True,
    )
    exactly = await query("SELECT id FROM {s}.orders WHERE id <= 16", max_rows=16)
    assert (exactly["count"], exactly["truncated"]) == (16, False)
    endless = await query("WITH RECURSIVE a AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM a) TABLE a", max_rows=3)
    assert (endless["count"], endless["truncated"]) == (3, True)


async def test_large_rows_and_many_of_them_are_cut(query: Query) -> None:
    with pytest.raises(RowTooLarge):
        await query("SELECT repeat('x', 100000000) AS v")
    size = ROW_BYTES // 2
    found = await query(f"SELECT repeat('x', {size}) AS v FROM generate_series(1, 1000)", max_rows=1000)
    assert found["truncated"]
    assert ALL_BYTES - 2 * size < found["count"] * size <= ALL_BYTES


# What is granted, how it is taken back, and what the error says of it.
POWERS = [
    ("ALTER ROLE {r} CREATEDB", "ALTER ROLE {r} NOCREATEDB", "it may make databases"),
    ("ALTER ROLE {r} CREATEROLE", "ALTER ROLE {r} NOCREATEROLE", "it may make roles"),
    ("ALTER ROLE {r} REPLICATION", "ALTER ROLE {r} NOREPLICATION", "it may replicate"),
    ("ALTER ROLE {r} BYPASSRLS", "ALTER ROLE {r} NOBYPASSRLS", "it has BYPASSRLS"),
    ("ALTER ROLE {r} SUPERUSER", "ALTER ROLE {r} NOSUPERUSER", "it is a superuser"),
    *(
        (f"GRANT {one} TO {{r}}", f"REVOKE {one} FROM {{r}}", f"it is a member of {one}")
        for one in ("pg_execute_server_program", "pg_read_server_files", "pg_signal_backend", "pg_write_all_data")
    ),
    *(
        (
            f"GRANT {one} ON {{r}}.orders TO {{r}}",
            f"REVOKE {one} ON {{r}}.orders FROM {{r}}",
            "it may change {r}.orders",
        )
        for one in ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "UPDATE (total)", "INSERT (id)")
    ),
    ("GRANT UPDATE ON {r}.counter TO {r}", "REVOKE UPDATE ON {r}.counter FROM {r}", "it may change {r}.counter"),
    ("GRANT DELETE ON {r}.orders TO PUBLIC", "REVOKE DELETE ON {r}.orders FROM PUBLIC", "it may change {r}.orders"),
    ("ALTER TABLE {r}.secrets OWNER TO {r}", "ALTER TABLE {r}.secrets OWNER TO {o}", "it owns {r}.secrets"),
    ("GRANT CREATE ON SCHEMA {r} TO {r}", "REVOKE CREATE ON SCHEMA {r} FROM {r}", "it may create in the schema {r}"),
    ("GRANT CREATE ON DATABASE {d} TO {r}", "REVOKE CREATE ON DATABASE {d} FROM {r}", "it may create in the database"),
    (
        "GRANT EXECUTE ON FUNCTION pg_reload_conf() TO {r}",
        "REVOKE EXECUTE ON FUNCTION pg_reload_conf() FROM {r}",
        "it may execute pg_reload_conf()",
    ),
]


@pytest.mark.parametrize(("grant", "revoke", "said"), POWERS, ids=[one[0] for one in POWERS])
async def test_a_role_that_could_do_more_is_refused_before_the_query(
    query: Query, store: Store, grant: str, revoke: str, said: str
) -> None:
    words = {
        "r": store.name,
        "o": await store.superuser.fetchval("SELECT current_user"),
        "d": await store.superuser.fetchval("SELECT current_database()"),
    }
    await store.superuser.execute(grant.format(**words))
    try:
        with pytest.raises(DatabaseRoleTooStrong) as refused:
            await query("SELECT 1")
    finally:
        await store.superuser.execute(revoke.format(**words))
    assert said.format(**words) in refused.value.what
    assert (await query("SELECT 1 AS n"))["rows"] == [{"n": 1}]


async def test_a_role_that_could_become_a_stronger_one_is_refused(query: Query, store: Store) -> None:
    other = f"{store.name}_w"
    await store.superuser.execute(
        f"CREATE ROLE {other}; GRANT DELETE ON {store.name}.orders TO {other};"
        f"GRANT {other} TO {store.name} WITH INHERIT FALSE, SET TRUE"
    )
    try:
        with pytest.raises(DatabaseRoleTooStrong, match="may change"):
            await query("SELECT 1")
    finally:
        await store.superuser.execute(f"DROP OWNED BY {other}; DROP ROLE {other}")


async def test_a_session_of_the_same_role_is_not_ended(query: Query, store: Store) -> None:
    other = await asyncpg.connect(store.url)
    try:
        pid = await other.fetchval("SELECT pg_backend_pid()")
        for text in (
            "SELECT pg_terminate_backend($1)",
            "SELECT PG_CATALOG . PG_Cancel_Backend ($1)",
            'SELECT "pg_terminate_backend"($1)',
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1",
            "SELECT query_to_xml('SELECT pg_termi' || 'nate_backend(' || $1::int || ')', true, true, '')",
            "SELECT * FROM ts_stat('SELECT pg_termi' || 'nate_backend(' || $1::int || ')::text::tsvector')",
            'SELECT U&"\\0070g_terminate_backend"($1)',
            "SELECT dblink_exec('host=other', 'DELETE FROM t', $1)",
        ):
            with pytest.raises(QueryForbidden):
                await query(text, pid)
        assert await other.fetchval("SELECT 1") == 1
    finally:
        await other.close()


@pytest.mark.parametrize(
    "address", ["", "mysql://a:b@host/x", "postgresql:///x", "postgresql://host/x", "postgresql://a:b@host", "http://["]
)
async def test_a_secret_that_names_no_database_is_refused(query: Query, address: str) -> None:
    with pytest.raises(DatabaseAddressMalformed):
        await query("SELECT 1", with_secret=lambda _name: address)


async def test_no_error_shows_the_address(query: Query, store: Store) -> None:
    for address, kind in (
        (store.url.replace(PASSWORD, "wrong-password"), DatabaseAddressMalformed),
        (f"postgresql://someone:{PASSWORD}@127.0.0.1:1/none", QueriedDatabaseUnavailable),
    ):
        with pytest.raises(kind) as told:
            await query("SELECT 1", with_secret=lambda _name, address=address: address)
        assert isinstance(told.value, AgentOSError)
        assert "password" not in str(told.value)
        assert PASSWORD not in str(told.value)
        assert told.value.__suppress_context__


async def test_the_database_is_named_by_reference_only(query: Query, store: Store) -> None:
    for named in (store.url, "shop", "secret://a b"):
        with pytest.raises(ArgumentsRefused):
            await query("SELECT 1", database=named)


async def test_nothing_of_a_session_lives_on(query: Query, store: Store) -> None:
    await query("SELECT pg_advisory_lock(42), set_config('work_mem', '1MB', false)")
    held = "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' "
    for _ in range(100):
        if not await store.superuser.fetchval(f"{held} AND a.usename = $1", store.name):
            return
        await store.superuser.fetchval("SELECT pg_sleep(0.02)")
    pytest.fail("the lock of an ended call is still held")
