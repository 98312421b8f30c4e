"""Stops in the database."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.control.stops.model import Stop, StopKind, StopScope, Wanted
from agentos.kernel.facts import Fact
from agentos.kernel.unit_of_work import UnitOfWork

# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_COLUMNS: Final = "org, id, kind, scope, target, reason, ordered_by, ordered_at, lifted_by, lifted_at, lift_reason"
_IN_FORCE: Final = text(f"SELECT {_COLUMNS} FROM stops WHERE lifted_at IS NULL ORDER BY id")
_OF_EVERYBODY: Final = text(
    f"SELECT {_COLUMNS} FROM stops "
    "WHERE org = '*' AND ordered_at <= :at AND (lifted_at IS NULL OR lifted_at > :at) ORDER BY id"
)
_GET: Final = text(f"SELECT {_COLUMNS} FROM stops WHERE id = :id")
_LIST: Final = text(
    f"SELECT {_COLUMNS} FROM stops WHERE (:before = '' OR id < :before) AND (:kind = '' OR kind = :kind) "
    "AND (:scope = '' OR scope = :scope) AND (NOT :in_force OR lifted_at IS NULL) ORDER BY id DESC LIMIT :most"
)
_SAME: Final = text(
    f"SELECT {_COLUMNS} FROM stops "
    "WHERE org = :org AND kind = :kind AND scope = :scope AND target = :target AND lifted_at IS NULL"
)
_COUNT: Final = text("SELECT count(*) AS stops FROM stops WHERE org = :org AND lifted_at IS NULL")
# The time and the horizon are the database's own, taken here: after the epoch's lock was had.
_REVISION: Final = text("SELECT count(*) + count(lifted_at) AS changes FROM stops WHERE org = :org AND kind = 'deny'")
_ADD: Final = text(
    "INSERT INTO stops (org, id, kind, scope, target, reason, ordered_by) "
    "VALUES (:org, :id, :kind, :scope, :target, :reason, :by)"
)
_LIFT: Final = text(
    "UPDATE stops SET lifted_by = :by, lifted_at = clock_timestamp(), lift_reason = :reason, "
    "lift_horizon = pg_current_snapshot() WHERE org = :org AND id = :id AND lifted_at IS NULL"
)
_AGE: Final = text("SELECT extract(epoch FROM clock_timestamp() - ordered_at) AS age FROM stops WHERE id = :id")
_TARGETS: Final = {
    StopScope.DEPLOYMENT: text("SELECT 1 FROM deployments WHERE id = :target"),
    StopScope.CATEGORY: text("SELECT 1 FROM agents WHERE category = :target LIMIT 1"),
    StopScope.AGENT: text("SELECT 1 FROM agents WHERE id = :target"),
}
_STOP_EVERYTHING: Final = text("SELECT everything_stopped(:id, :kind, :reason, :by, :org, :fact, CAST(:body AS jsonb))")
_LIFT_EVERYTHING: Final = text("SELECT everything_lifted(:id, :reason, :by, :org, :fact, CAST(:body AS jsonb))")


async def denylist_revision(work: UnitOfWork) -> int:
    """How often an entry of the organization's denylist was ordered or lifted."""
    row = await work.first(_REVISION, {"org": work.organization})
    return int(row.changes) if row else 0


async def in_force(work: UnitOfWork) -> list[Stop]:
    """Every stop of the organization, and of every organization, that is not lifted."""
    return [_read(row) for row in await work.all(_IN_FORCE, {})]


async def of_everybody(work: UnitOfWork, at: datetime) -> list[Stop]:
    """The stops of every organization that were in force at a moment."""
    return [_read(row) for row in await work.all(_OF_EVERYBODY, {"at": at})]


async def get(work: UnitOfWork, stop_id: str) -> Stop | None:
    """One stop, the organization's or everybody's."""
    row = await work.first(_GET, {"id": stop_id})
    return _read(row) if row else None


async def listed(work: UnitOfWork, *, kind: str, scope: str, in_force: bool, before: str, most: int) -> list[Stop]:
    """Stops, newest first."""
    values = {"kind": kind, "scope": scope, "in_force": in_force, "before": before, "most": most}
    return [_read(row) for row in await work.all(_LIST, values)]


async def same(work: UnitOfWork, wanted: Wanted) -> Stop | None:
    """The organization's stop in force that is just this one."""
    values = {"org": work.organization, "kind": wanted.kind, "scope": wanted.scope, "target": wanted.target}
    row = await work.first(_SAME, values)
    return _read(row) if row else None


async def count(work: UnitOfWork) -> int:
    """How many stops of the organization are in force."""
    row = await work.first(_COUNT, {"org": work.organization})
    return int(row.stops) if row else 0


async def age(work: UnitOfWork, stop_id: str) -> float:
    """The seconds since a stop was ordered, by the database's clock."""
    row = await work.first(_AGE, {"id": stop_id})
    return float(row.age) if row else 0.0


async def known(work: UnitOfWork, scope: StopScope, target: str) -> bool:
    """Whether what a stop is about is there; True where nobody can know."""
    statement = _TARGETS.get(scope)
    return statement is None or await work.first(statement, {"target": target}) is not None


async def add(work: UnitOfWork, stop_id: str, wanted: Wanted, by: str) -> None:
    """Add a stop of the organization, whose epoch was bumped before in this unit of work."""
    values = {"kind": wanted.kind, "scope": wanted.scope, "target": wanted.target, "reason": wanted.reason}
    await work.run(_ADD, {"org": work.organization, "id": stop_id, "by": by, **values})


async def lift(work: UnitOfWork, stop_id: str, by: str, reason: str) -> bool:
    """Lift a stop of the organization, whose epoch was bumped before; False when it was lifted already."""
    return bool(await work.run(_LIFT, {"org": work.organization, "id": stop_id, "by": by, "reason": reason}))


async def stop_everything(
    connection: AsyncConnection, stop_id: str, wanted: Wanted, by: str, organization: str, fact: Fact
) -> str:
    """Add a stop of every organization; as the system role. Its id, that of the first when the same is in force."""
    values = {"id": stop_id, "kind": wanted.kind, "reason": wanted.reason, "by": by, "org": organization}
    found = await connection.execute(_STOP_EVERYTHING, {**values, "fact": fact.name, "body": fact.body()})
    return str(found.scalar_one())


async def lift_everything(
    connection: AsyncConnection, stop_id: str, by: str, reason: str, organization: str, fact: Fact
) -> bool:
    """Lift a stop of every organization; as the system role. False when it was lifted already."""
    values = {"id": stop_id, "reason": reason, "by": by, "org": organization}
    found = await connection.execute(_LIFT_EVERYTHING, {**values, "fact": fact.name, "body": fact.body()})
    return bool(found.scalar_one())


def _read(row: Row[Any]) -> Stop:
    values = dict(row._mapping)
    values["organization"] = values.pop("org")
    return Stop(**values | {"kind": StopKind(row.kind), "scope": StopScope(row.scope)})
