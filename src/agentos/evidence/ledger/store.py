"""Facts that are not chained yet, and entries and ends of chains as PostgreSQL has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.evidence.ledger.chain import Batch
from agentos.evidence.ledger.model import End, Row, Search
from agentos.kernel.database import Database
from agentos.kernel.unit_of_work import UnitOfWork

_LOCK: Final = text("SELECT outbox_lock('ledger')")
_READ: Final = "SELECT * FROM ledger_read($1)"
_ENDS: Final = "SELECT * FROM ledger_ends($1::text[])"
_BEGAN: Final = "SELECT * FROM ledger_began()"
_BEGIN: Final = "SELECT ledger_begin($1, $2)"
_APPEND: Final = f"SELECT ledger_append({', '.join(f'${number}' for number in range(1, 23))})"
_COLUMNS: Final = "number, hash, entry, at, name, key, person, run_id, deployment_id"
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
PAGE: Final = f"SELECT {_COLUMNS} FROM ledger WHERE org = $1 AND number > $2 ORDER BY number LIMIT $3"
END: Final = (
    "SELECT h.number, h.hash, (SELECT max(l.number) FROM ledger l WHERE l.org = h.org) AS last "
    "FROM ledger_heads h WHERE h.org = $1"
)
LAST: Final = "SELECT max(number) FROM ledger WHERE org = $1"
NAMED: Final = "SELECT number, hash FROM ledger WHERE org = $1 AND number = ANY ($2::bigint[])"
UNANCHORED: Final = (
    "SELECT number, at, clock_timestamp() AS now FROM ledger WHERE org = $1 AND number > $2 ORDER BY number LIMIT 1"
)
_UNANCHORED: Final = text(
    "SELECT ledger_unanchored(CAST(:organizations AS text[]), CAST(:numbers AS bigint[])) AS seconds"
)
PASSED: Final = "SELECT * FROM ledger_passed($1, $2)"
_LAST_ENTRY: Final = "SELECT * FROM ledger_last()"
_LAST_ENTRIES: Final = "SELECT * FROM ledger_lasts()"
_PUT_BACK: Final = "SELECT ledger_put_back($1, $2, $3, $4)"
_VERIFIED: Final = text("SELECT ledger_verified(:org, :number, :broken)")
_COUNTED: Final = text("SELECT * FROM ledger_counted()")
_WAITING: Final = text("SELECT * FROM ledger_waiting()")
_SEARCH: Final = """
SELECT {columns} FROM ledger
WHERE org = :org {conditions} AND number {beyond} :number ORDER BY number {order} LIMIT :most
"""
_CONDITIONS: Final = {
    "name": "name = :name",
    "key": "key = :key",
    "person": "person = :person",
    "run_id": "(run_id = :run_id AND run_id <> key OR key = :run_id)",
    "deployment_id": "deployment_id = :deployment_id",
    "since": "at >= :since",
    "until": "at < :until",
}
_NAMED_UNTIL: Final = text(
    f"SELECT {_COLUMNS} FROM ledger WHERE org = :org AND name = ANY (:names) AND at <= :at AND number > :after "
    "ORDER BY number LIMIT :most"
)
_ABOUT: Final = text(
    f"SELECT {_COLUMNS} FROM ledger WHERE org = :org AND name = ANY (:names) AND key = ANY (:keys) "
    "ORDER BY number DESC LIMIT :most"
)
_FIRST_AND_LAST: Final = text(
    "SELECT (SELECT min(at) FROM ledger WHERE org = :org) AS first, "
    "(SELECT max(at) FROM ledger WHERE org = :org) AS last"
)


async def locked(connection: AsyncConnection) -> bool:
    """Whether this transaction is now the chainer's: there is one at a time."""
    return bool((await connection.execute(_LOCK)).scalar_one())


async def read(driver: Any, most: int) -> Sequence[Mapping[str, Any]]:
    """The next facts that are not chained, of all organizations, in their order."""
    found: Sequence[Mapping[str, Any]] = await driver.fetch(_READ, most)
    return found


async def last_entry(driver: Any) -> Any:
    """Where the chainer stands, and the last entry of the chain that went on last; None where there is no chain."""
    return await driver.fetchrow(_LAST_ENTRY)


async def last_entries(driver: Any) -> Sequence[Mapping[str, Any]]:
    """The last entry of every chain, what its end says of it, and where the chainer stands."""
    found: Sequence[Mapping[str, Any]] = await driver.fetch(_LAST_ENTRIES)
    return found


async def put_back(driver: Any, was: tuple[int, int], to: tuple[int, int]) -> None:
    """Put the chainer back, if it is still where it was."""
    await driver.execute(_PUT_BACK, str(was[0]), was[1], str(to[0]), to[1])


async def ends(driver: Any, organizations: Sequence[str] | None = None) -> dict[str, End]:
    """Where the chains of these organizations end, or all that there are."""
    return {
        row["org"]: End(row["number"], row["hash"], row["is_sealed"])
        for row in await driver.fetch(_ENDS, organizations)
    }


async def began(driver: Any) -> Any:
    """Where the ledger began, if that was ever said; what it would be now; and whether there are chains."""
    return await driver.fetchrow(_BEGAN)


async def begin(driver: Any, transaction: int, mac: bytes) -> None:
    """Say once where the ledger began."""
    await driver.execute(_BEGIN, str(transaction), mac)


async def append(driver: Any, batch: Batch, first: Mapping[str, Any], last: Mapping[str, Any]) -> list[str]:
    """Add the batch, and move behind its last fact, in one transaction. Raises where its facts were chained meanwhile.

    Gives back the organizations whose chains do not go on from their ends: their facts are set aside.
    """
    names = list(batch.was)
    was, now = [batch.was[name] for name in names], [batch.now[name] for name in names]
    left_out: list[str] = await driver.fetchval(
        _APPEND,
        first["txid"],
        first["seq"],
        last["txid"],
        last["seq"],
        names,
        [one.number for one in was],
        [one.hash for one in was],
        [one.number for one in now],
        [one.hash for one in now],
        [one.is_sealed for one in now],
        [batch.upto[name][0] for name in names],
        [batch.upto[name][1] for name in names],
        batch.organizations,
        *(list(column) for column in zip(*batch.rows, strict=True)),
    )
    return left_out


async def search(work: UnitOfWork, wanted: Search, *, beyond: int, is_oldest_first: bool, most: int) -> list[Row]:
    """Entries beyond a number, in the order that is asked for."""
    values = {name: value for name in _CONDITIONS if (value := getattr(wanted, name))}
    statement = _SEARCH.format(
        columns=_COLUMNS,
        conditions="".join(f" AND {_CONDITIONS[name]}" for name in values),
        beyond=">" if is_oldest_first else "<",
        order="ASC" if is_oldest_first else "DESC",
    )
    told = {**values, "org": work.organization, "number": beyond, "most": most}
    return [Row._make(row) for row in await work.all(text(statement), told)]


async def entry(work: UnitOfWork, number: int) -> Row | None:
    """One entry."""
    found = await search(work, Search(), beyond=number - 1, is_oldest_first=True, most=1)
    return found[0] if found and found[0].number == number else None


async def about(work: UnitOfWork, names: Sequence[str], keys: Sequence[str], most: int) -> list[Row]:
    """The newest entries of these facts about these ids."""
    values = {"org": work.organization, "names": list(names), "keys": list(keys), "most": most}
    return [Row._make(row) for row in await work.all(_ABOUT, values)]


async def told_until(work: UnitOfWork, names: Sequence[str], at: datetime, *, after: int, most: int) -> list[Row]:
    """Entries of these facts up to a moment and behind a number, oldest first."""
    values = {"org": work.organization, "names": list(names), "at": at, "after": after, "most": most}
    return [Row._make(row) for row in await work.all(_NAMED_UNTIL, values)]


async def span(work: UnitOfWork) -> tuple[datetime | None, datetime | None]:
    """When the first and the last entry's facts were written."""
    row = await work.first(_FIRST_AND_LAST, {"org": work.organization})
    assert row is not None
    return row.first, row.last


async def keep_verified(database: Database, organization: str, number: int, broken: str) -> None:
    """Keep what a look over a whole chain found."""
    async with database.connection("agentos_system") as connection:
        await connection.execute(_VERIFIED, {"org": organization, "number": number, "broken": broken})


async def unanchored_seconds(database: Database, anchored: Mapping[str, int]) -> float:
    """For how long the oldest entry behind these numbers of its chain has stood there; 0 where there is none."""
    values = {"organizations": list(anchored), "numbers": list(anchored.values())}
    async with database.connection("agentos_system") as connection:
        return float((await connection.execute(_UNANCHORED, values)).scalar_one())


async def counted(database: Database) -> tuple[Sequence[Any], Any]:
    """Every chain, and how many facts wait to be chained and for how long."""
    async with database.connection("agentos_system") as connection:
        return (await connection.execute(_COUNTED)).all(), (await connection.execute(_WAITING)).one()
