"""Canaries and rollbacks in the database, and the open runs of a deployment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts.model import CanaryRecord, Outcome, Rollback

_ADD_CANARY: Final = text(
    "INSERT INTO canaries (org, deployment_id, revision, version, beside, reason, overridden, started_by, started_at, "
    "outcome) VALUES (:org, :deployment_id, :revision, :version, :beside, :reason, CAST(:overridden AS jsonb), :by, "
    ":at, 'open') ON CONFLICT (org, deployment_id, revision) "
    "DO UPDATE SET overridden = canaries.overridden || excluded.overridden"
)
_CANARIES: Final = text(
    "SELECT deployment_id, revision, version, beside, reason, overridden, started_by, started_at, outcome, ended_at, "
    "breaches FROM canaries WHERE deployment_id = :id ORDER BY revision DESC LIMIT :most"
)
_END_CANARY: Final = text(
    "UPDATE canaries SET outcome = :outcome, ended_at = :at, breaches = CAST(:breaches AS jsonb) "
    "WHERE deployment_id = :id AND revision = :revision AND outcome = 'open'"
)
_ALONE: Final = text(
    "SELECT pg_try_advisory_xact_lock(hashtextextended('canary ' || :org || ' ' || :id, 0)) AS is_alone"
)
_ADD_ROLLBACK: Final = text(
    "INSERT INTO rollbacks (org, deployment_id, number, version, rolled_back, criterion, reason, ordered_by, at, "
    "closes_at, outcome) VALUES (:org, :deployment_id, :number, :version, :rolled_back, :criterion, :reason, :by, :at, "
    ":closes_at, 'waiting')"
)
_ROLLBACK: Final = (
    "SELECT deployment_id, number, kind, version, rolled_back, criterion, reason, ordered_by, at, closes_at, outcome, "
    "checks, validated_at FROM rollbacks WHERE deployment_id = :id "
)
_ROLLBACKS: Final = text(_ROLLBACK + "AND number < :below ORDER BY number DESC LIMIT :most")
_ONE_ROLLBACK: Final = text(_ROLLBACK + "AND number = :number")
_WAITING: Final = text(_ROLLBACK + "AND outcome = 'waiting' ORDER BY number FOR UPDATE")
_CHECKED: Final = text(
    "UPDATE rollbacks SET outcome = :outcome, checks = CAST(:checks AS jsonb), validated_at = :at "
    "WHERE deployment_id = :id AND number = :number"
)
_DISPATCHED: Final = text(
    "SELECT count(*) AS admitted, count(*) FILTER (WHERE started_at < :until) AS started FROM runs "
    "WHERE deployment_id = :id AND revision = :number AND draft_id IS NULL AND accepted_at < :until"
)
_OF_REVISION: Final = text("SELECT id FROM runs WHERE id = ANY(:ids) AND revision = :number")
_ASKED_PEOPLE: Final = text("SELECT DISTINCT run_id FROM approvals WHERE run_id = ANY(:ids)")
# What waits for a person, a pause or a stop does not hang. Of the rows of open runs, which are few, there is an index.
_UNMOVED: Final = text(
    "SELECT count(*) FILTER (WHERE revision = :revision) AS canary, "
    "count(*) FILTER (WHERE version = :beside) AS beside FROM runs "
    "WHERE deployment_id = :id AND status IN ('accepted', 'running') AND draft_id IS NULL "
    "AND accepted_at >= :since AND accepted_at < :before AND coalesce(waiting->>'reason', '') "
    "NOT IN ('approval', 'uncertain_effect', 'paused', 'deployment_paused', 'stopped')"
)
_OPEN: Final = text(
    "SELECT version, format, status, coalesce(waiting->>'reason', '') AS reason, count(*) AS runs FROM runs "
    "WHERE deployment_id = :id AND status IN ('accepted', 'running', 'waiting_approval', 'paused') "
    "GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
)
_WATCHED: Final = text("SELECT org, deployment_id FROM rollouts_watched(:org, :deployment, :most)")


async def add_canary(work: UnitOfWork, values: dict[str, Any], overridden: Sequence[str]) -> None:
    """Keep what a canary was begun with; of one that is known, what more was overridden for a larger share."""
    await work.run(_ADD_CANARY, {"org": work.organization, **values, "overridden": json.dumps(list(overridden))})


async def canaries(work: UnitOfWork, deployment_id: str, most: int) -> list[CanaryRecord]:
    """The canaries of a deployment, newest first."""
    rows = await work.all(_CANARIES, {"id": deployment_id, "most": most})
    lists = ("overridden", "breaches")
    return [CanaryRecord(**{**row._mapping, **{name: tuple(row._mapping[name]) for name in lists}}) for row in rows]


async def end_canary(
    work: UnitOfWork, deployment_id: str, revision: int, outcome: str, breaches: Sequence[str], at: datetime
) -> bool:
    """Keep how an open canary ended; False when it was over already."""
    values = {"id": deployment_id, "revision": revision, "outcome": outcome, "at": at}
    return bool(await work.run(_END_CANARY, {**values, "breaches": json.dumps(list(breaches))}))


async def alone(work: UnitOfWork, deployment_id: str) -> bool:
    """Whether nobody else judges the deployment's canary until the unit of work ends."""
    row = await work.first(_ALONE, {"org": work.organization, "id": deployment_id})
    return row is not None and bool(row.is_alone)


async def add_rollback(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Keep a rollback whose checks wait."""
    await work.run(_ADD_ROLLBACK, {"org": work.organization, **values})


async def rollbacks(work: UnitOfWork, deployment_id: str, below: int, most: int) -> list[Rollback]:
    """The rollbacks of a deployment, newest first."""
    rows = await work.all(_ROLLBACKS, {"id": deployment_id, "below": below, "most": most})
    return [_rollback(row) for row in rows]


async def rollback(work: UnitOfWork, deployment_id: str, number: int) -> Rollback | None:
    """The rollback that a revision came of."""
    row = await work.first(_ONE_ROLLBACK, {"id": deployment_id, "number": number})
    return _rollback(row) if row else None


async def waiting(work: UnitOfWork, deployment_id: str) -> list[Rollback]:
    """The rollbacks of a deployment whose checks wait, locked until the unit of work ends."""
    return [_rollback(row) for row in await work.all(_WAITING, {"id": deployment_id})]


async def checked(
    work: UnitOfWork, one: Rollback, outcome: Outcome, checks: Sequence[dict[str, Any]], at: datetime
) -> None:
    """Keep what the checks of a rollback say by now."""
    values = {"id": one.deployment_id, "number": one.number, "outcome": outcome.value}
    ended = None if outcome is Outcome.WAITING else at
    await work.run(_CHECKED, {**values, "checks": json.dumps(list(checks)), "at": ended})


async def dispatched(work: UnitOfWork, deployment_id: str, number: int, until: datetime) -> tuple[int, int]:
    """How many runs were admitted on a revision by then, and how many of them a worker began by then."""
    row = await work.first(_DISPATCHED, {"id": deployment_id, "number": number, "until": until})
    assert row is not None, "an aggregate has one row"
    return int(row.admitted), int(row.started)


async def of_revision(work: UnitOfWork, run_ids: Sequence[str], number: int) -> set[str]:
    """Those of some runs of a deployment that were admitted on a revision."""
    return {row.id for row in await work.all(_OF_REVISION, {"ids": list(run_ids), "number": number})}


async def asked_people(work: UnitOfWork, run_ids: Sequence[str]) -> set[str]:
    """Those of some runs for which people were asked."""
    return {row.run_id for row in await work.all(_ASKED_PEOPLE, {"ids": list(run_ids)})}


async def unmoved(work: UnitOfWork, one: CanaryRecord, *, since: datetime, before: datetime) -> tuple[int, int]:
    """How many runs that were admitted within a time are open and wait for nobody: of a canary, and beside it."""
    values = {"id": one.deployment_id, "revision": one.revision, "beside": one.beside, "since": since, "before": before}
    row = await work.first(_UNMOVED, values)
    assert row is not None, "an aggregate has one row"
    return int(row.canary), int(row.beside)


async def open_runs(work: UnitOfWork, deployment_id: str) -> Sequence[Row[Any]]:
    """The runs of a deployment that are not over, counted by version, format, status and what they wait for."""
    return await work.all(_OPEN, {"id": deployment_id})


async def watched(connection: AsyncConnection, after: tuple[str, str], most: int) -> Sequence[Row[Any]]:
    """Deployments of every organization that have something to watch, by organization and id, after one of them."""
    values = {"org": after[0], "deployment": after[1], "most": most}
    return (await connection.execute(_WATCHED, values)).all()


def _rollback(row: Row[Any]) -> Rollback:
    return Rollback(**{**row._mapping, "outcome": Outcome(row.outcome), "checks": tuple(row.checks)})
