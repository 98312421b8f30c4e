"""What journals and approvals tell, read and never written; and what became of replays."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text

from agentos.evidence.replay.answers import Answered
from agentos.kernel.database import Database
from agentos.kernel.unit_of_work import UnitOfWork

PAGE: Final = 500  # rows of journals in memory at once, besides the run that is being put together

_READ_ONLY: Final = text("SET TRANSACTION READ ONLY")
# A run that was under way in the window is read from its beginning: budgets count from there.
_STEPS: Final = text(
    "SELECT r.id AS run_id, r.deployment_id, r.agent_id, r.category, r.version AS run_version, r.accepted_at, "
    "j.seq, j.key, j.phase, j.kind, j.name, j.status, j.effect, j.at, j.meta, "
    "CASE WHEN :content AND (j.kind = 'model' OR j.phase = 'intent') THEN j.content END AS content "
    "FROM runs r JOIN journal j ON j.org = r.org AND j.run_id = r.id "
    "WHERE (r.ended_at IS NULL OR r.ended_at >= :since) AND r.accepted_at < :until "
    "AND (:deployment = '' OR r.deployment_id = :deployment) AND (r.id, j.seq) > (:run, :seq) "
    "ORDER BY r.id, j.seq LIMIT :most"
)
# Runs that were under way at any time since :since, whole, in the order of time.
_ANSWERS: Final = text(
    "SELECT r.id AS run_id, r.agent_id, r.deployment_id, j.seq, j.key AS step, j.at, "
    "coalesce(j.meta->>'provider', '') AS provider, j.name AS model, (j.meta->'cost'->>'micros')::bigint AS money, "
    "coalesce((j.meta->'cost'->>'tokens')::bigint, coalesce((j.meta->'usage'->>'input')::bigint, 0) "
    "+ coalesce((j.meta->'usage'->>'output')::bigint, 0)) AS tokens "
    "FROM runs r JOIN journal j ON j.org = r.org AND j.run_id = r.id "
    "WHERE j.kind = 'model' AND j.phase = 'result' AND j.status = 'ok' AND j.at < :until "
    "AND (r.ended_at IS NULL OR r.ended_at >= :since) AND r.accepted_at < :until "
    "AND (:deployment = '' OR r.deployment_id = :deployment) ORDER BY j.at, r.id, j.seq LIMIT :most"
)
_ANSWERED: Final = text(
    "SELECT count(*) AS measured, "
    "percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM decided_at - asked_at)) AS seconds "
    "FROM approvals WHERE status IN ('approved', 'denied') AND decided_at IS NOT NULL"
)

_KEEP: Final = text(
    "INSERT INTO replays (org, run_id, agent_id, recorded_hash, replayed_hash, step, field, class, replayed_by, "
    "replayed_at) VALUES (:org, :run_id, :agent_id, :recorded_hash, :replayed_hash, :step, :field, :class, :by, :at) "
    "ON CONFLICT (org, run_id) DO UPDATE SET recorded_hash = excluded.recorded_hash, "
    "replayed_hash = excluded.replayed_hash, step = excluded.step, field = excluded.field, class = excluded.class, "
    "replayed_by = excluded.replayed_by, replayed_at = excluded.replayed_at"
)
_LATEST: Final = text(
    "SELECT id FROM runs WHERE deployment_id = :deployment AND draft_id IS NULL AND ended_at IS NOT NULL "
    "AND (:version = '' OR version = :version) "
    "AND (CAST(:since AS timestamptz) IS NULL OR ended_at >= :since) ORDER BY id DESC LIMIT :most"
)
_LAST: Final = text("SELECT * FROM replays_last()")
_COUNTED: Final = text("SELECT * FROM replays_counted()")


async def keep(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Keep what a replay came to, instead of the run's replay before."""
    await work.run(_KEEP, {"org": work.organization, **values})


async def latest(work: UnitOfWork, deployment_id: str, version: str, since: datetime | None, most: int) -> list[str]:
    """The last runs of a deployment that are over, of one version and since a time where told; newest first."""
    values = {"deployment": deployment_id, "version": version, "since": since, "most": most}
    return [row.id for row in await work.all(_LATEST, values)]


async def last(database: Database) -> dict[str, Any]:
    """The last replay of every organization's, and how many parted. Raises DatabaseUnavailable."""
    async with database.connection("agentos_system") as connection:
        return dict((await connection.execute(_LAST)).one()._mapping)


async def counted(database: Database) -> list[dict[str, Any]]:
    """How many runs were replayed and how many parted at which step. Raises DatabaseUnavailable."""
    async with database.connection("agentos_system") as connection:
        return [dict(row._mapping) for row in (await connection.execute(_COUNTED)).all()]


async def read_only(work: UnitOfWork) -> None:
    """Let this unit of work write nothing, whatever it tries."""
    await work.run(_READ_ONLY)


async def journals(
    work: UnitOfWork, since: datetime, until: datetime, deployment: str, *, content: bool
) -> AsyncIterator[list[dict[str, Any]]]:
    """The journal of each run that was under way in the window, run by run. Payloads only with ``content``."""
    at, run = ("", 0), ""
    rows: list[dict[str, Any]] = []
    while True:
        values = {"since": since, "until": until, "deployment": deployment, "content": content, "most": PAGE}
        page = await work.all(_STEPS, {**values, "run": at[0], "seq": at[1]})
        for row in page:
            if row.run_id != run and rows:
                yield rows
                rows = []
            run = row.run_id
            content_of = json.loads(row.content) if row.content is not None else None
            rows.append({**row._mapping, "content": content_of})
        if len(page) < PAGE:
            break
        at = (page[-1].run_id, page[-1].seq)
    if rows:
        yield rows


async def answers(work: UnitOfWork, since: datetime, until: datetime, deployment: str, *, most: int) -> list[Answered]:
    """What models answered in runs that were under way in the window, in the order of time; at most so many."""
    values = {"since": since, "until": until, "deployment": deployment, "most": most}
    return [Answered(**row._mapping) for row in await work.all(_ANSWERS, values)]


async def answered(work: UnitOfWork) -> tuple[int, float | None]:
    """How many approvals people have answered, and the median of the seconds that they waited for it."""
    row = await work.first(_ANSWERED)
    assert row is not None
    return int(row.measured), None if row.seconds is None else float(row.seconds)
