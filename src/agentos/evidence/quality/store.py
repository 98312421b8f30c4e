"""Scores, what people said, gates, freezes and looks at drift in the database; figures read through ``samples``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.quality.model import (
    Comparator,
    Feedback,
    Freeze,
    FreezeScope,
    Gate,
    Said,
    Scope,
    Severity,
)
from agentos.evidence.quality.scoring import HISTORY, Observed, last_word
from agentos.kernel.database import Database
from agentos.kernel.ids import FeedbackId, FreezeId, GateId, OrgId
from agentos.kernel.unit_of_work import UnitOfWork

MOST_STEPS: Final = 5000  # of a run's journal: as many as a version may allow, twice over

# ruff: noqa: S608 -- the statements are put together from the constants here and nothing else
# One statement, because every run that ends costs it: what is known of a run, with its journal.
_RUN: Final = text(
    "SELECT r.id, r.deployment_id, r.agent_id, r.category, r.version, r.requested_by, r.status, r.draft_id, "
    "r.firing_id, r.input, "
    "r.output, r.ended_at, extract(epoch FROM r.ended_at - r.accepted_at)::double precision AS seconds, v.definition, "
    "(SELECT jsonb_agg(to_jsonb(s) ORDER BY s.seq) FROM (SELECT j.seq, j.key, j.phase, j.kind, j.name, j.status, "
    "j.effect, j.meta FROM journal j WHERE j.org = r.org AND j.run_id = r.id ORDER BY j.seq LIMIT :most) s) AS steps, "
    "(SELECT jsonb_object_agg(s.status, s.times) FROM (SELECT a.status, count(*) AS times FROM approvals a "
    "WHERE a.org = r.org AND a.run_id = r.id AND (a.status <> 'expired' OR a.reason = 'timeout') "  # else it fell away
    "GROUP BY a.status) s) AS approvals, "
    "(SELECT jsonb_object_agg(s.status, s.times) FROM (SELECT d.status, count(*) AS times FROM drafts d "
    "WHERE d.org = r.org AND d.run_id = r.id GROUP BY d.status) s) AS drafts, "
    "(SELECT jsonb_object_agg(s.draft_id, s.verdict) FROM (SELECT DISTINCT ON (f.draft_id) f.draft_id, f.verdict "
    "FROM quality_feedback f WHERE f.org = r.org AND f.run_id = r.id ORDER BY f.draft_id, f.id DESC) s) AS words, "
    "(SELECT array_agg(s.seconds) FROM (SELECT q.seconds FROM quality_runs q WHERE q.org = r.org "
    "AND q.agent_id = r.agent_id AND q.version = r.version AND q.counted AND q.ended_at < r.ended_at "
    "ORDER BY q.ended_at DESC LIMIT :history) s) AS history "
    "FROM runs r JOIN versions v ON v.org = r.org AND v.agent_id = r.agent_id AND v.hash = r.version "
    "WHERE r.id = :run_id AND r.ended_at IS NOT NULL"
)
_JUDGED: Final = text(
    "SELECT count(*) AS judged, count(*) FILTER (WHERE feedback = 'accepted') AS accepted FROM quality_runs "
    "WHERE agent_id = :agent_id AND feedback IS NOT NULL AND ended_at >= :since AND run_id <> :run_id "
    "AND abs(unjudged - :mean) <= :near"
)
# Confidence and what it is made of stay what they were before anybody judged the run.
_AFRESH: Final = "q.confidence IS NULL OR (q.feedback IS NULL AND excluded.feedback IS NULL)"
_PUT: Final = text(
    "INSERT INTO quality_runs AS q (org, run_id, deployment_id, agent_id, category, version, requested_by, status, "
    "ended_at, counted, seconds, score, unjudged, confidence, grounds, formula, feedback, parts, features, scored_at) "
    "VALUES (:org, :run_id, :deployment_id, :agent_id, :category, :version, :requested_by, :status, :ended_at, "
    ":counted, :seconds, "
    ":score, :unjudged, :confidence, CAST(:grounds AS jsonb), :formula, :feedback, CAST(:parts AS jsonb), "
    "CAST(:features AS jsonb), :at) "
    "ON CONFLICT (org, run_id) DO UPDATE SET score = excluded.score, formula = excluded.formula, "
    "unjudged = excluded.unjudged, feedback = excluded.feedback, parts = excluded.parts, "
    "features = excluded.features, scored_at = excluded.scored_at, "
    f"confidence = CASE WHEN {_AFRESH} THEN excluded.confidence ELSE q.confidence END, "
    f"grounds = CASE WHEN {_AFRESH} THEN excluded.grounds ELSE q.grounds END"
)
_SCORED: Final = text(
    "SELECT run_id, deployment_id, agent_id, category, version, status, ended_at, counted, seconds, score, confidence, "
    "grounds, formula, feedback, parts, features, scored_at FROM quality_runs WHERE run_id = :run_id"
)
_SAY: Final = text(
    "INSERT INTO quality_feedback (org, id, run_id, draft_id, verdict, note, said_by, said_at) "
    "VALUES (:org, :id, :run_id, :draft_id, :verdict, :note, :by, :at)"
)
_SAID: Final = text(
    "SELECT id, run_id, draft_id, verdict, note, said_by, said_at FROM quality_feedback "
    "WHERE (:run_id = '' OR run_id = :run_id) AND (:verdict = '' OR verdict = :verdict) "
    "AND (:before = '' OR id < :before) "
    "ORDER BY id DESC LIMIT :most"
)
_LOCK_RUN: Final = text("SELECT id, ended_at FROM runs WHERE id = :run_id FOR UPDATE")
_LOCK_RUNS: Final = text("SELECT FROM runs WHERE id = ANY(CAST(:ids AS text[])) ORDER BY id FOR NO KEY UPDATE")
_DRAFT_OF: Final = text("SELECT run_id FROM drafts WHERE id = :draft_id")
_LOOK: Final = text(
    "INSERT INTO quality_drifts (org, scope, target, score, looked_at) VALUES (:org, :scope, :target, :score, :at) "
    "ON CONFLICT (org, scope, target) DO UPDATE SET score = excluded.score, looked_at = excluded.looked_at "
    "WHERE quality_drifts.looked_at < excluded.looked_at"
)
_LOOKED: Final = text(
    "SELECT true AS found FROM quality_drifts WHERE scope = :scope AND target = :target AND looked_at >= :since"
)
_SCOPES: Final = text("SELECT * FROM quality_scopes(:since)")
_DRIFTS: Final = text("SELECT * FROM quality_drifts_known(:since)")
_ADD_GATE: Final = text(
    "INSERT INTO quality_gates (org, id, scope, target, metric, dataset_hash, comparator, threshold, lookback_seconds, "
    "samples, severity, added_by, added_at) VALUES (:org, :id, :scope, :target, :metric, :dataset_hash, :comparator, "
    ":threshold, :lookback, :samples, :severity, :by, :at) ON CONFLICT DO NOTHING"
)
_GATE: Final = (
    "SELECT id, scope, target, metric, dataset_hash, comparator, threshold, lookback_seconds, samples, severity, "
    "added_by, added_at FROM quality_gates "
)
_GATES: Final = text(f"{_GATE} WHERE id > :after ORDER BY id LIMIT :most")
_APPLY: Final = text(
    f"{_GATE} WHERE scope = 'organization' OR (scope = 'role' AND target = ANY(:roles)) OR (scope = 'deployment' "
    "AND target IN (SELECT d.id FROM deployments d WHERE d.agent_id = :agent AND d.environment = :environment)) "
    "ORDER BY id"
)
_COUNT_GATES: Final = text("SELECT count(*) AS gates FROM quality_gates")
_REMOVE_GATE: Final = text(
    "DELETE FROM quality_gates WHERE id = :id RETURNING id, scope, target, metric, dataset_hash, comparator, "
    "threshold, lookback_seconds, samples, severity, added_by, added_at"
)
_FREEZE: Final = text(
    "INSERT INTO quality_freezes (org, id, scope, target, reason, frozen_by, frozen_at) "
    "VALUES (:org, :id, :scope, :target, :reason, :by, :at) ON CONFLICT DO NOTHING"
)
_FREEZES: Final = (
    "SELECT id, scope, target, reason, frozen_by, frozen_at, lifted_by, lifted_at, lift_reason FROM quality_freezes "
)
_IN_FORCE: Final = text(f"{_FREEZES} WHERE lifted_at IS NULL AND id > :after ORDER BY id LIMIT :most")
_HOLDING: Final = text(
    f"{_FREEZES} WHERE lifted_at IS NULL AND (scope = 'organization' OR (scope = 'role' AND target = ANY(:roles)) "
    "OR (scope = 'agent' AND target = :agent)) ORDER BY id"
)
_LIFT: Final = text(
    "UPDATE quality_freezes SET lifted_by = :by, lifted_at = :at, lift_reason = :reason "
    "WHERE id = :id AND lifted_at IS NULL "
    "RETURNING id, scope, target, reason, frozen_by, frozen_at, lifted_by, lifted_at, lift_reason"
)


async def observed(work: UnitOfWork, run_id: str) -> tuple[Row[Any], Observed] | None:
    """A run that ended and what is known of it; None while it is not over, or where there is none."""
    row = await work.first(_RUN, {"run_id": run_id, "most": MOST_STEPS, "history": HISTORY})
    if row is None:
        return None
    return row, Observed(
        status=row.status,
        seconds=row.seconds,
        steps=row.steps or [],
        approvals=row.approvals or {},
        drafts=row.drafts or {},
        input=json.loads(row.input),
        output=None if row.output is None else json.loads(row.output),
        definition=row.definition,
        trigger=row.firing_id is not None,
        history=row.history or [],
        feedback=last_word({of: Feedback(verdict) for of, verdict in (row.words or {}).items()}),
    )


async def judged(
    work: UnitOfWork, agent_id: str, run_id: str, mean: float, near: float, since: datetime
) -> tuple[int, int]:
    """How many other runs of the agent with a like mean people judged since, and how many of those they accepted."""
    values = {"agent_id": agent_id, "run_id": run_id, "mean": mean, "near": near, "since": since}
    row = await work.first(_JUDGED, values)
    return (int(row.judged), int(row.accepted)) if row else (0, 0)


async def put(work: UnitOfWork, values: dict[str, Any]) -> None:
    """Keep a run's score. Its confidence and its grounds stay what they were before anybody judged the run."""
    written = {
        name: None if values[name] is None else json.dumps(values[name]) for name in ("parts", "features", "grounds")
    }
    await work.run(_PUT, {"org": work.organization, **values, **written})


async def scored(work: UnitOfWork, run_id: str) -> Row[Any] | None:
    """What is kept of a run."""
    return await work.first(_SCORED, {"run_id": run_id})


async def lock_run(work: UnitOfWork, run_id: str) -> Row[Any] | None:
    """A run's id and end, locked until the unit of work ends."""
    return await work.first(_LOCK_RUN, {"run_id": run_id})


async def lock_runs(work: UnitOfWork, run_ids: Sequence[str]) -> None:
    """Keep anybody else from scoring these runs until the unit of work ends."""
    await work.run(_LOCK_RUNS, {"ids": list(run_ids)})


async def run_of_draft(work: UnitOfWork, draft_id: str) -> str | None:
    """The run that made a draft."""
    row = await work.first(_DRAFT_OF, {"draft_id": draft_id})
    return row.run_id if row else None


async def say(work: UnitOfWork, one: Said) -> None:
    """Keep what a person said of a run."""
    values = {
        "id": one.id,
        "run_id": one.run_id,
        "draft_id": one.draft_id,
        "verdict": one.verdict.value,
        "note": one.note,
        "by": one.said_by,
        "at": one.said_at,
    }
    await work.run(_SAY, {"org": work.organization, **values})


async def said(work: UnitOfWork, run_id: str, verdict: str, before: str, most: int) -> list[Said]:
    """What people said, newest first."""
    rows = await work.all(_SAID, {"run_id": run_id, "verdict": verdict, "before": before, "most": most})
    return [Said(**{**row._mapping, "id": FeedbackId(row.id), "verdict": Feedback(row.verdict)}) for row in rows]


async def add_gate(work: UnitOfWork, gate: Gate) -> bool:
    """Add a gate; False when there is one like it."""
    values = {
        "id": gate.id,
        "scope": gate.scope.value,
        "target": gate.target,
        "metric": gate.metric,
        "dataset_hash": gate.dataset_hash,
        "comparator": gate.comparator.value,
        "threshold": gate.threshold,
        "lookback": int(gate.lookback.total_seconds()),
        "samples": gate.samples,
        "severity": gate.severity.value,
        "by": gate.added_by,
        "at": gate.added_at,
    }
    return bool(await work.run(_ADD_GATE, {"org": work.organization, **values}))


async def gates(work: UnitOfWork, after: str, most: int) -> list[Gate]:
    """Gates, oldest first."""
    return [_gate(row) for row in await work.all(_GATES, {"after": after, "most": most})]


async def gates_of(work: UnitOfWork, roles: Sequence[str], agent_id: str, environment: str) -> list[Gate]:
    """Every gate of the organization, of these roles and of the agent's deployments in an environment, oldest first.

    Also of deployments that are retired: what was asked of the agent there outlives them.
    """
    values = {"roles": list(roles), "agent": agent_id, "environment": environment}
    return [_gate(row) for row in await work.all(_APPLY, values)]


async def count_gates(work: UnitOfWork) -> int:
    """How many gates the organization has."""
    row = await work.first(_COUNT_GATES)
    return int(row.gates) if row else 0


async def remove_gate(work: UnitOfWork, gate_id: str) -> Gate | None:
    """Remove a gate; it as it was, or None where there was none."""
    row = await work.first(_REMOVE_GATE, {"id": gate_id})
    return _gate(row) if row else None


async def freeze(work: UnitOfWork, one: Freeze) -> bool:
    """Add a freeze; False when its target is frozen already."""
    values = {
        "id": one.id,
        "scope": one.scope.value,
        "target": one.target,
        "reason": one.reason,
        "by": one.frozen_by,
        "at": one.frozen_at,
    }
    return bool(await work.run(_FREEZE, {"org": work.organization, **values}))


async def freezes(work: UnitOfWork, after: str, most: int) -> list[Freeze]:
    """Freezes in force, oldest first."""
    return [_freeze(row) for row in await work.all(_IN_FORCE, {"after": after, "most": most})]


async def freezes_of(work: UnitOfWork, roles: Sequence[str], agent_id: str) -> list[Freeze]:
    """Freezes in force that hold an agent of these roles."""
    return [_freeze(row) for row in await work.all(_HOLDING, {"roles": list(roles), "agent": agent_id})]


async def lift(work: UnitOfWork, freeze_id: str, reason: str, by: str, at: datetime) -> Freeze | None:
    """Lift a freeze; it as it is then, or None where it is not in force."""
    row = await work.first(_LIFT, {"id": freeze_id, "reason": reason, "by": by, "at": at})
    return _freeze(row) if row else None


async def look(work: UnitOfWork, scope: Scope, target: str, score: float | None, at: datetime) -> None:
    """Keep what a look at a scope's drift found."""
    values = {"scope": scope.value, "target": target, "score": score, "at": at}
    await work.run(_LOOK, {"org": work.organization, **values})


async def looked(work: UnitOfWork, scope: Scope, target: str, since: datetime) -> bool:
    """Whether somebody has looked at a scope's drift since."""
    return await work.first(_LOOKED, {"scope": scope.value, "target": target, "since": since}) is not None


async def scopes(database: Database, since: datetime) -> list[tuple[OrgId, Scope, str]]:
    """The roles and deployments whose runs ended since, in every organization. Raises DatabaseUnavailable."""
    async with database.connection("agentos_system") as connection:
        rows = (await connection.execute(_SCOPES, {"since": since})).all()
    return [(OrgId(row.org), Scope(row.scope), row.target) for row in rows]


async def drifts(database: Database, since: datetime) -> list[dict[str, Any]]:
    """What drift was known to be at looks since then. Raises DatabaseUnavailable."""
    async with database.connection("agentos_system") as connection:
        return [dict(row._mapping) for row in (await connection.execute(_DRIFTS, {"since": since})).all()]


def _gate(row: Row[Any]) -> Gate:
    return Gate(
        id=GateId(row.id),
        scope=Scope(row.scope),
        target=row.target,
        metric=row.metric,
        comparator=Comparator(row.comparator),
        threshold=row.threshold,
        lookback=timedelta(seconds=row.lookback_seconds),
        samples=row.samples,
        severity=Severity(row.severity),
        added_by=row.added_by,
        added_at=row.added_at,
        dataset_hash=row.dataset_hash,
    )


def _freeze(row: Row[Any]) -> Freeze:
    return Freeze(**{**row._mapping, "id": FreezeId(row.id), "scope": FreezeScope(row.scope)})
