"""Shadows and what they were shown in the database."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.shadows.model import Shadow, Shown

_PUT_SHADOW: Final = text(
    "INSERT INTO shadows (org, deployment_id, agent_id, version, percent, live, started_by, started_at) "
    "VALUES (:org, :deployment_id, :agent_id, :version, :percent, :live, :by, :at) "
    "ON CONFLICT (org, deployment_id) DO UPDATE SET version = excluded.version, percent = excluded.percent, "
    "live = excluded.live, started_by = excluded.started_by, started_at = excluded.started_at, ended_at = NULL"
)
_SHADOW: Final = text(
    "SELECT deployment_id, version, percent, live, started_by, started_at, ended_at FROM shadows "
    "WHERE deployment_id = :id"
)
_SHADOWED: Final = text(
    "SELECT deployment_id FROM shadows WHERE deployment_id = ANY(CAST(:ids AS text[])) AND ended_at IS NULL"
)
_END_SHADOW: Final = text("UPDATE shadows SET ended_at = :at WHERE deployment_id = :id AND ended_at IS NULL")
_KEEP: Final = text(
    "INSERT INTO shadow_runs (org, deployment_id, version, run_id, recorded, found, code, changed, micros_more, "
    "left_because, at) VALUES (:org, :deployment_id, :version, :run_id, :recorded, :found, :code, :changed, "
    ":micros_more, :left_because, :at) ON CONFLICT DO NOTHING"
)
_IS_SHOWN: Final = text(
    "SELECT 1 FROM shadow_runs WHERE deployment_id = :id AND version = :version AND run_id = :run_id"
)
_SHOWN: Final = text(
    "SELECT count(*) AS runs, count(changed) AS known, count(*) FILTER (WHERE changed) AS changed, "
    "count(*) FILTER (WHERE found = 'completed') AS completed, "
    "count(*) FILTER (WHERE recorded = 'completed' AND changed IS NOT NULL) AS recorded_completed, "
    "count(micros_more) AS priced, sum(micros_more) AS micros_more, "
    "stddev_samp(micros_more)::double precision AS spread FROM shadow_runs "
    "WHERE deployment_id = :id AND version = :version"
)
_SHADOW_RUNS: Final = text(
    "SELECT run_id, recorded, found, code, changed, micros_more, left_because, at FROM shadow_runs "
    "WHERE deployment_id = :id AND version = :version "
    "AND (:before = '' OR run_id < :before) ORDER BY run_id DESC LIMIT :most"
)


async def put_shadow(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Let a version be a deployment's shadow, instead of another."""
    await work.run(_PUT_SHADOW, {"org": work.organization, **values})


async def shadow(work: UnitOfWork, deployment_id: str) -> Shadow | None:
    """A deployment's shadow, also one that has ended."""
    row = await work.first(_SHADOW, {"id": deployment_id})
    return Shadow(**row._mapping) if row else None


async def shadowed(work: UnitOfWork, deployment_ids: Collection[str]) -> set[str]:
    """Those of these deployments that have a shadow which goes on."""
    return {row.deployment_id for row in await work.all(_SHADOWED, {"ids": list(deployment_ids)})}


async def end_shadow(work: UnitOfWork, deployment_id: str, at: datetime) -> bool:
    """Show the shadow nothing more; False when there is none."""
    return bool(await work.run(_END_SHADOW, {"id": deployment_id, "at": at}))


async def is_shown(work: UnitOfWork, deployment_id: str, version: str, run_id: str) -> bool:
    """Whether a version was shown a run already."""
    return await work.first(_IS_SHOWN, {"id": deployment_id, "version": version, "run_id": run_id}) is not None


async def keep(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Keep what a run would have come to; the first word on it stays."""
    await work.run(_KEEP, {"org": work.organization, **values})


async def shown(work: UnitOfWork, deployment_id: str, version: str) -> Shown:
    """What the runs that a version was shown would have come to, counted."""
    row = await work.first(_SHOWN, {"id": deployment_id, "version": version})
    assert row is not None, "an aggregate has one row"
    more = None if row.micros_more is None else int(row.micros_more)
    return Shown(**{**row._mapping, "micros_more": more})


async def shadow_runs(
    work: UnitOfWork, deployment_id: str, version: str, before: str, most: int
) -> list[dict[str, Any]]:
    """What each run would have come to, newest first."""
    values = {"id": deployment_id, "version": version, "before": before, "most": most}
    return [dict(row._mapping) for row in await work.all(_SHADOW_RUNS, values)]
