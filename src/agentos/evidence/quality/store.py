"""Scored runs, gates and freezes in the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Row, text

from agentos.evidence.quality.figures import Scored
from agentos.evidence.quality.model import Comparator, Feedback, Freeze, FreezeScope, Gate, Scope, Severity
from agentos.kernel.ids import FreezeId, GateId
from agentos.kernel.unit_of_work import UnitOfWork

MOST_RUNS: Final = 10_000  # of a figure, the newest: 50 ms to read, and more would narrow no interval that matters

_COLUMNS: Final = (
    "SELECT q.run_id, q.deployment_id, q.agent_id, q.category, q.version, q.status, q.ended_at, q.seconds, q.score, "
    "q.confidence, q.parts, q.features, NULL AS feedback FROM quality_runs q "
)
_WITHIN: Final = "AND q.counted AND q.ended_at >= :since AND q.ended_at < :until ORDER BY q.ended_at DESC LIMIT :most"

_OF_VERSION: Final = text(f"{_COLUMNS} WHERE q.agent_id = :agent_id AND q.version = :version {_WITHIN}")
_OF_DEPLOYMENT: Final = text(
    f"{_COLUMNS} WHERE q.deployment_id = :deployment AND (:version = '' OR q.version = :version) {_WITHIN}"
)
_ADD_GATE: Final = text(
    "INSERT INTO quality_gates (org, id, scope, target, metric, comparator, threshold, lookback_seconds, samples, "
    "severity, added_by, added_at) VALUES (:org, :id, :scope, :target, :metric, :comparator, :threshold, :lookback, "
    ":samples, :severity, :by, :at) ON CONFLICT DO NOTHING"
)
_GATE: Final = (
    "SELECT id, scope, target, metric, comparator, threshold, lookback_seconds, samples, severity, added_by, added_at "
    "FROM quality_gates "
)
_GATES: Final = text(f"{_GATE} WHERE id > :after ORDER BY id LIMIT :most")
_APPLY: Final = text(
    f"{_GATE} WHERE scope = 'organization' OR (scope = 'role' AND target = :role) "
    "OR (scope = 'deployment' AND target = :deployment) ORDER BY id"
)
_COUNT_GATES: Final = text("SELECT count(*) AS gates FROM quality_gates")
_REMOVE_GATE: Final = text(
    "DELETE FROM quality_gates WHERE id = :id RETURNING id, scope, target, metric, comparator, threshold, "
    "lookback_seconds, samples, severity, added_by, added_at"
)
_FREEZE: Final = text(
    "INSERT INTO quality_freezes (org, id, scope, target, reason, frozen_by, frozen_at) "
    "VALUES (:org, :id, :scope, :target, :reason, :by, :at) ON CONFLICT DO NOTHING"
)
_FREEZES: Final = (
    "SELECT id, scope, target, reason, frozen_by, frozen_at, lifted_by, lifted_at, lift_reason FROM quality_freezes "
)
_IN_FORCE: Final = text(f"{_FREEZES} WHERE lifted_at IS NULL ORDER BY id LIMIT :most")
_HOLDING: Final = text(
    f"{_FREEZES} WHERE lifted_at IS NULL AND (scope = 'organization' OR (scope = 'role' AND target = :role) "
    "OR (scope = 'agent' AND target = :agent)) ORDER BY id"
)
_LIFT: Final = text(
    "UPDATE quality_freezes SET lifted_by = :by, lifted_at = :at, lift_reason = :reason "
    "WHERE scope = :scope AND target = :target AND lifted_at IS NULL "
    "RETURNING id, scope, target, reason, frozen_by, frozen_at, lifted_by, lifted_at, lift_reason"
)


async def of_version(work: UnitOfWork, agent_id: str, version: str, since: datetime, until: datetime) -> list[Scored]:
    """Runs of a version that ended within a time, in every deployment of its agent; newest first."""
    values = {"agent_id": agent_id, "version": version, "since": since, "until": until, "most": MOST_RUNS}
    return [_scored(row) for row in await work.all(_OF_VERSION, values)]


async def of_deployment(
    work: UnitOfWork, deployment_id: str, version: str, since: datetime, until: datetime
) -> list[Scored]:
    """Runs of a deployment that ended within a time, of one version where one is named; newest first."""
    values = {"deployment": deployment_id, "version": version, "since": since, "until": until, "most": MOST_RUNS}
    return [_scored(row) for row in await work.all(_OF_DEPLOYMENT, values)]


async def add_gate(work: UnitOfWork, gate: Gate) -> bool:
    """Add a gate; False when there is one like it."""
    values = {
        "id": gate.id,
        "scope": gate.scope.value,
        "target": gate.target,
        "metric": gate.metric,
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


async def gates_of(work: UnitOfWork, role: str, deployment_id: str) -> list[Gate]:
    """Every gate that applies to a deployment of that role, oldest first."""
    return [_gate(row) for row in await work.all(_APPLY, {"role": role, "deployment": deployment_id})]


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


async def freezes(work: UnitOfWork, most: int) -> list[Freeze]:
    """Freezes in force, oldest first."""
    return [_freeze(row) for row in await work.all(_IN_FORCE, {"most": most})]


async def freezes_of(work: UnitOfWork, role: str, agent_id: str) -> list[Freeze]:
    """Freezes in force that hold an agent of that role."""
    return [_freeze(row) for row in await work.all(_HOLDING, {"role": role, "agent": agent_id})]


async def lift(work: UnitOfWork, scope: FreezeScope, target: str, reason: str, by: str, at: datetime) -> Freeze | None:
    """Lift a freeze; it as it is then, or None where none was in force."""
    values = {"scope": scope.value, "target": target, "reason": reason, "by": by, "at": at}
    row = await work.first(_LIFT, values)
    return _freeze(row) if row else None


def _scored(row: Row[Any]) -> Scored:
    return Scored(**{**row._mapping, "feedback": Feedback(row.feedback) if row.feedback else None})


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
    )


def _freeze(row: Row[Any]) -> Freeze:
    return Freeze(**{**row._mapping, "id": FreezeId(row.id), "scope": FreezeScope(row.scope)})
