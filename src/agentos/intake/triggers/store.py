"""Triggers and firings in the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.intake.triggers.model import Firing, Kind, Overlap, State, Trigger, Wanted, kind_of, read_spec, spec_of
from agentos.kernel.ids import FiringId, OrgId, TriggerId
from agentos.kernel.unit_of_work import UnitOfWork

_ADD: Final = text(
    "INSERT INTO triggers (org, id, name, kind, agent_id, environment, spec, input, take, overlap, most_open, "
    "priority, is_enabled, hook_hash, next_at, created_by) VALUES (:org, :id, :name, :kind, :agent_id, :environment, "
    "CAST(:spec AS jsonb), CAST(:input AS jsonb), CAST(:take AS jsonb), :overlap, :most_open, :priority, :is_enabled, "
    ":hook_hash, :next_at, :created_by)"
)
_CHANGE: Final = text(
    "UPDATE triggers SET is_enabled = :is_enabled, overlap = :overlap, most_open = :most_open, priority = :priority, "
    "next_at = :next_at, changes = changes + 1 WHERE id = :id"
)
_REMOVE: Final = text("DELETE FROM triggers WHERE id = :id")
_COUNT: Final = text("SELECT count(*) AS triggers FROM triggers")
_NAMED: Final = text("SELECT * FROM triggers WHERE name = :name")
# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
_GET: Final = {lock: text(f"SELECT * FROM triggers WHERE id = :id {lock}") for lock in ("", "FOR SHARE", "FOR UPDATE")}
_LIST: Final = text(
    "SELECT * FROM triggers WHERE id > :after AND (:kind = '' OR kind = :kind) AND (:agent = '' OR agent_id = :agent) "
    "ORDER BY id LIMIT :most"
)
_FOR_EVENTS: Final = text("SELECT * FROM triggers WHERE kind = 'event' AND is_enabled ORDER BY id")
_MOVE: Final = text("UPDATE triggers SET next_at = :next_at WHERE id = :id")
_FIRE: Final = text(
    "INSERT INTO firings (org, id, trigger_id, dedup, due_at, input, request_id, state) "
    "VALUES (:org, :id, :trigger_id, :dedup, :due_at, :input, :request_id, 'fired') "
    "ON CONFLICT (org, trigger_id, dedup) DO NOTHING"
)
_FIRED: Final = text("SELECT id FROM firings WHERE trigger_id = :trigger_id AND dedup = :dedup")
_FIRING: Final = {lock: text(f"SELECT * FROM firings WHERE id = :id {lock}") for lock in ("", "FOR UPDATE")}
_FIRINGS: Final = text(
    "SELECT * FROM firings WHERE trigger_id = :trigger_id "
    "AND (:before = '' OR id < :before) AND (:state = '' OR state = :state) "
    "ORDER BY id DESC LIMIT :most"
)
_OPEN: Final = text(
    "SELECT * FROM firings WHERE trigger_id = :trigger_id AND state = :state ORDER BY id LIMIT :most FOR UPDATE"
)
_BECOMES: Final = text("UPDATE firings SET state = :state, reason = :reason, run_id = :run_id WHERE id = :id")
_WITHDRAW: Final = text(
    "UPDATE firings SET state = 'withdrawn', reason = :reason "
    "WHERE trigger_id = :trigger_id AND state IN ('fired', 'queued')"
)
_HOOK: Final = text("SELECT * FROM webhook_trigger(:hash)")
_DUE: Final = text("SELECT * FROM schedules_due(:at, :most)")


async def add(work: UnitOfWork, trigger_id: TriggerId, wanted: Wanted, values: dict[str, Any]) -> None:
    """Add a trigger. ``values``: hook_hash, next_at, created_by."""
    row = {
        "org": work.organization,
        "id": trigger_id,
        "name": wanted.name,
        "kind": kind_of(wanted.on).value,
        "agent_id": wanted.agent_id,
        "environment": wanted.environment,
        "spec": spec_of(wanted.on),
        "input": json.dumps(dict(wanted.input)),
        "take": json.dumps(dict(wanted.take)),
        "overlap": wanted.overlap.value,
        "most_open": wanted.most_open,
        "priority": wanted.priority,
        "is_enabled": wanted.is_enabled,
    }
    await work.run(_ADD, row | values)


async def change(work: UnitOfWork, trigger_id: str, values: dict[str, Any]) -> None:
    """Set what may change of a trigger that is locked."""
    await work.run(_CHANGE, {"id": trigger_id, **values})


async def remove(work: UnitOfWork, trigger_id: str) -> None:
    """Remove a trigger and its firings."""
    await work.run(_REMOVE, {"id": trigger_id})


async def count(work: UnitOfWork) -> int:
    """How many triggers the organization has."""
    row = await work.first(_COUNT)
    return int(row.triggers) if row else 0


async def named(work: UnitOfWork, name: str) -> Trigger | None:
    """The trigger of that name."""
    row = await work.first(_NAMED, {"name": name})
    return _trigger(row) if row else None


async def get(work: UnitOfWork, trigger_id: str, lock: str = "") -> Trigger | None:
    """One trigger. ``lock``: '' or FOR SHARE or FOR UPDATE."""
    row = await work.first(_GET[lock], {"id": trigger_id})
    return _trigger(row) if row else None


async def listed(work: UnitOfWork, *, kind: str, agent: str, after: str, most: int) -> list[Trigger]:
    """Triggers, oldest first."""
    values = {"kind": kind, "agent": agent, "after": after, "most": most}
    return [_trigger(row) for row in await work.all(_LIST, values)]


async def for_events(work: UnitOfWork) -> list[Trigger]:
    """The enabled triggers that fire on events."""
    return [_trigger(row) for row in await work.all(_FOR_EVENTS)]


async def move(work: UnitOfWork, trigger_id: str, next_at: datetime) -> None:
    """Set when a schedule fires next."""
    await work.run(_MOVE, {"id": trigger_id, "next_at": next_at})


async def fire(work: UnitOfWork, values: dict[str, Any]) -> bool:
    """Add a firing; False when this trigger has fired on just this before."""
    return bool(await work.run(_FIRE, {"org": work.organization, **values}))


async def fired(work: UnitOfWork, trigger_id: str, dedup: str) -> str:
    """The id of the firing that this trigger has had on just this."""
    row = await work.first(_FIRED, {"trigger_id": trigger_id, "dedup": dedup})
    assert row is not None
    return str(row.id)


async def firing(work: UnitOfWork, firing_id: str, lock: str = "") -> Firing | None:
    """One firing. ``lock``: '' or FOR UPDATE."""
    row = await work.first(_FIRING[lock], {"id": firing_id})
    return _firing(row) if row else None


async def firings(work: UnitOfWork, trigger_id: str, *, state: str, before: str, most: int) -> list[Firing]:
    """A trigger's firings, newest first."""
    values = {"trigger_id": trigger_id, "state": state, "before": before, "most": most}
    return [_firing(row) for row in await work.all(_FIRINGS, values)]


async def those(work: UnitOfWork, trigger_id: str, state: State, most: int) -> list[Firing]:
    """A trigger's firings in this state, oldest first, locked."""
    values = {"trigger_id": trigger_id, "state": state.value, "most": most}
    return [_firing(row) for row in await work.all(_OPEN, values)]


async def becomes(work: UnitOfWork, firing_id: str, state: State, reason: str, run_id: str | None) -> None:
    """Record what became of a firing that is locked."""
    await work.run(_BECOMES, {"id": firing_id, "state": state.value, "reason": reason, "run_id": run_id})


async def withdraw(work: UnitOfWork, trigger_id: str, reason: str) -> int:
    """Withdraw every firing that has no run yet; how many there were."""
    return await work.run(_WITHDRAW, {"trigger_id": trigger_id, "reason": reason})


async def hook(connection: AsyncConnection, hashed: bytes) -> tuple[OrgId, str] | None:
    """The organization and trigger of a webhook's address; as the system role."""
    row = (await connection.execute(_HOOK, {"hash": hashed})).first()
    return (OrgId(row.org), row.trigger_id) if row else None


async def due(connection: AsyncConnection, at: datetime | None, most: int) -> Sequence[Row[Any]]:
    """Schedules by their next moment: org, trigger_id, the seconds until then, and what time it is; as the system role.

    ``at``: the time that it is taken to be; None for the database's.
    """
    return (await connection.execute(_DUE, {"at": at, "most": most})).all()


def _trigger(row: Row[Any]) -> Trigger:
    return Trigger(
        id=TriggerId(row.id),
        organization=OrgId(row.org),
        name=row.name,
        agent_id=row.agent_id,
        environment=row.environment,
        on=read_spec(Kind(row.kind), row.spec),
        input=row.input,
        take=row.take,
        overlap=Overlap(row.overlap),
        most_open=row.most_open,
        priority=row.priority,
        is_enabled=row.is_enabled,
        next_at=row.next_at,
        changes=row.changes,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _firing(row: Row[Any]) -> Firing:
    return Firing(
        FiringId(row.id),
        TriggerId(row.trigger_id),
        row.due_at,
        row.fired_at,
        bytes(row.input),
        row.request_id,
        State(row.state),
        row.reason,
        row.run_id,
    )
