"""Statements that wait at the same moment share a commit, and share nothing else."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import asyncpg

from agentos.kernel import group_commit
from agentos.kernel.database import Database, DatabaseUnavailable
from agentos.kernel.group_commit import GroupCommit

# Which transaction a statement ran in is what these tests look at.
MARK = """
WITH o AS MATERIALIZED (SELECT set_config('agentos.organization', $1, true))
SELECT pg_current_xact_id()::text AS txid, 12 / $2::int AS twelfth, o.set_config FROM o
"""
SLEEP = "SELECT $1::int AS number, pg_current_xact_id()::text AS txid, pg_sleep($2) IS NULL AS slept"


async def test_what_waits_together_is_committed_together(database: Database) -> None:
    rows = await asyncio.gather(*(database.group.row(MARK, "main", one) for one in range(1, 13)))
    assert [row["twelfth"] for row in rows] == [12 // one for one in range(1, 13)]
    assert len({row["txid"] for row in rows}) == 1


async def test_a_statement_alone_goes_out_at_once(database: Database) -> None:
    assert (await database.group.row(MARK, "main", 3))["twelfth"] == 4
    assert (await database.group.row(MARK, "main", 4))["twelfth"] == 3


async def test_what_one_is_refused_for_is_not_the_error_of_another(database: Database) -> None:
    found = await asyncio.gather(
        *(database.group.row(MARK, "main", one) for one in (1, 2, 0, 3)), return_exceptions=True
    )
    assert [row["twelfth"] for row in (found[0], found[1], found[3]) if not isinstance(row, BaseException)] == [
        12,
        6,
        4,
    ]
    assert isinstance(found[2], asyncpg.DivisionByZeroError)


async def test_one_that_waits_for_a_lock_does_not_stop_those_that_come_later_who_share_the_next(
    database: Database,
) -> None:
    slow = asyncio.create_task(database.group.row(SLEEP, 0, 2.0))
    await asyncio.sleep(0.05)  # it is on its way, alone
    rows = await asyncio.gather(*(database.group.row(SLEEP, one, 0.0) for one in range(1, 5)))
    assert [row["number"] for row in rows] == [1, 2, 3, 4]
    assert len({row["txid"] for row in rows}) == 1
    assert not slow.done()
    assert (await slow)["number"] == 0


async def test_a_caller_who_gives_up_takes_nobody_with_him(database: Database) -> None:
    tasks = [asyncio.create_task(database.group.row(MARK, "main", one)) for one in range(1, 5)]
    tasks[1].cancel()
    found = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(found[1], asyncio.CancelledError)
    assert [one["twelfth"] for one in found if not isinstance(one, BaseException)] == [12, 4, 3]


async def test_a_database_that_is_away_is_told_to_everybody_and_asked_once() -> None:
    asked = 0

    async def away() -> Any:
        nonlocal asked
        asked += 1
        raise DatabaseUnavailable("the database does not answer")

    group = GroupCommit(away, contextlib.nullcontext)
    found = await asyncio.gather(*(group.row(MARK, "main", 1) for _ in range(8)), return_exceptions=True)
    assert all(isinstance(one, DatabaseUnavailable) for one in found)
    assert asked <= group_commit.LANES


async def test_of_a_group_that_met_a_deadlock_each_is_tried_alone() -> None:
    class Connection:
        groups: int = 0

        async def fetchmany(self, _statement: str, _arguments: list[Any]) -> Any:
            self.groups += 1
            raise DatabaseUnavailable("the database does not answer") from asyncpg.DeadlockDetectedError("")

        async def fetchrow(self, _statement: str, number: int) -> int:
            return number

    connection = Connection()

    class Pool:
        @contextlib.asynccontextmanager
        async def acquire(self) -> Any:
            yield connection

    async def pool() -> Any:
        return Pool()

    group = GroupCommit(pool, contextlib.nullcontext)
    assert await asyncio.gather(*(group.row("", one) for one in range(5))) == list(range(5))
    assert connection.groups > 0


async def test_a_group_goes_in_the_order_of_its_organizations(database: Database) -> None:
    stamp = "SELECT $1::text AS org, pg_current_xact_id()::text AS txid, clock_timestamp() AS at"
    rows = await asyncio.gather(*(database.group.row(stamp, f"o{one}") for one in (5, 3, 9, 1, 7, 2, 8, 4, 6)))
    groups = {row["txid"] for row in rows}
    for group in groups:
        together = sorted((row["at"], row["org"]) for row in rows if row["txid"] == group)
        assert [org for _, org in together] == sorted(org for _, org in together)
    assert len(groups) < len(rows)
