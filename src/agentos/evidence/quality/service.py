"""Measure versions, judge them by every gate that applies, and freeze promotions.

Figures are of runs that ended, were not cancelled, and are no submitted draft: the others say nothing of a version. A
run is counted from the moment on that its end was scored, a fraction of a second after its commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from math import isfinite

from agentos.control.agents import service as agents
from agentos.control.deployments import service as deployments
from agentos.evidence.quality import figures, scoring, store
from agentos.evidence.quality.figures import Metric, Scored
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    MOST_GATES,
    Comparator,
    Figure,
    Freeze,
    FreezeScope,
    FreezeUnknown,
    FrozenAlready,
    Gate,
    GateAdded,
    GateInvalid,
    GateKnown,
    GateRemoved,
    GatesFull,
    GateUnknown,
    Judgement,
    PromotionFrozen,
    PromotionUnfrozen,
    Scope,
    ScopeInvalid,
    Severity,
    Verdict,
)
from agentos.kernel import ids
from agentos.kernel.ids import FreezeId, GateId
from agentos.kernel.unit_of_work import UnitOfWork


async def score(work: UnitOfWork, run_id: str, *, at: datetime) -> None:
    """Compute and keep the score and confidence of a run that ended. Doing it again gives the same; else nothing is.

    Its figures are counted from the commit of this unit of work on.
    """
    found = await store.observed(work, run_id)
    if found is None:
        return
    row, run = found
    parts = scoring.parts(run)
    mean = scoring.unjudged(parts)
    judged, accepted = 0, 0
    if mean is not None:
        since = row.ended_at - LONGEST_LOOKBACK
        judged, accepted = await store.judged(work, row.agent_id, run_id, mean, scoring.NEAR, since)
    await store.put(
        work,
        {
            "run_id": run_id,
            "deployment_id": row.deployment_id,
            "agent_id": row.agent_id,
            "category": row.category,
            "version": row.version,
            "status": row.status,
            "ended_at": row.ended_at,
            "counted": row.draft_id is None and row.status != "cancelled",
            "seconds": row.seconds,
            "score": scoring.score(parts),
            "unjudged": mean,
            "confidence": scoring.confidence(mean, judged, accepted),
            "formula": scoring.FORMULA,
            "feedback": run.feedback,
            "parts": parts,
            "features": scoring.features(run),
            "at": at,
        },
    )


async def measured(
    work: UnitOfWork, deployment_id: str, version: str, metric: str, *, since: datetime, until: datetime
) -> Figure:
    """A metric over the deployment's runs of a version that ended within a time; an empty version: of all of them.

    Raises MetricUnknown (Invalid).
    """
    one = figures.metric(metric)
    return figures.figure(one, await store.of_deployment(work, deployment_id, version, since, until))


async def judge(work: UnitOfWork, deployment_id: str, version: str, *, at: datetime) -> Judgement:
    """What every gate of the deployment, of its role and of the organization says of a version, and what freezes it.

    Figures are of the version's runs in every deployment of the agent, so those of a staging environment and of a
    canary count. Raises DeploymentUnknown (NotFound), MalformedId (Invalid).
    """
    deployment = await deployments.get(work, deployment_id)
    role = (await agents.get_agent(work, deployment.agent_id)).category
    verdicts = []
    for gate in await store.gates_of(work, role, deployment_id):
        runs = await store.of_version(work, deployment.agent_id, version, at - gate.lookback, at)
        if gate.comparator is not Comparator.NO_WORSE:
            verdicts.append(_verdict(gate, runs))
            continue
        serving: Sequence[Scored] | None = None
        if deployment.version is not None:
            serving = await store.of_version(work, deployment.agent_id, deployment.version, at - gate.lookback, at)
        verdicts.append(compared(gate, runs, serving))
    frozen = await store.freezes_of(work, role, deployment.agent_id)
    return Judgement(tuple(verdicts), tuple(frozen))


def _verdict(gate: Gate, runs: Sequence[Scored]) -> Verdict:
    found = figures.figure(figures.metric(gate.metric), runs)
    passed = None
    if found.value is not None and found.samples >= gate.samples:
        passed = gate.comparator.holds(found.value, gate.threshold)
    return Verdict(gate, found.value, found.low, found.high, found.samples, passed)


def compared(gate: Gate, candidate: Sequence[Scored], serving: Sequence[Scored] | None) -> Verdict:
    """Whether a version is shown to be no worse than the one that serves by more than the gate tolerates.

    It passes when the upper end of the 90 % interval of its loss is within the tolerance: a one-sided test of
    non-inferiority at 5 %. So too few samples never pass; docs/quality.md says how many are enough.
    """
    metric = figures.metric(gate.metric)
    ours = figures.figure(metric, candidate)
    if serving is None:
        return Verdict(gate, ours.value, ours.low, ours.high, ours.samples, None)
    theirs, lost = figures.figure(metric, serving), figures.loss(metric, candidate, serving)
    passed = None
    if lost.high is not None and lost.samples >= gate.samples:
        passed = lost.high <= gate.threshold
    return Verdict(gate, ours.value, ours.low, ours.high, ours.samples, passed, theirs, lost)


async def add_gate(
    work: UnitOfWork,
    *,
    scope: Scope,
    target: str,
    metric: str,
    comparator: Comparator,
    threshold: float,
    lookback: timedelta,
    samples: int,
    severity: Severity,
    by: str,
    at: datetime,
) -> Gate:
    """Add a gate; it applies from now on.

    Raises MetricUnknown, GateInvalid, ScopeInvalid or MalformedId (Invalid), DeploymentUnknown (NotFound), GateKnown
    or GatesFull (Conflict).
    """
    _check_gate(figures.metric(metric), comparator, threshold, lookback, samples)
    await _check_scope(work, scope, target)
    if await store.count_gates(work) >= MOST_GATES:
        raise GatesFull(f"there are {MOST_GATES} gates already", then="Remove one that no longer matters.")
    gate = Gate(
        GateId(ids.new("gate")), scope, target, metric, comparator, threshold, lookback, samples, severity, by, at
    )
    if not await store.add_gate(work, gate):
        raise GateKnown(
            f"there is a gate like this one: {gate.said}", then="Remove it first, to set another threshold."
        )
    seconds = int(lookback.total_seconds())
    await work.publish(GateAdded(gate.id, scope, target, metric, comparator, threshold, seconds, samples, severity, by))
    return gate


async def list_gates(work: UnitOfWork, *, after: str = "", most: int = MOST_GATES) -> list[Gate]:
    """Gates, oldest first."""
    return await store.gates(work, after, most)


async def remove_gate(work: UnitOfWork, gate_id: str, *, by: str) -> Gate:
    """Remove a gate. Raises GateUnknown (NotFound)."""
    gate = await store.remove_gate(work, gate_id)
    if gate is None:
        raise GateUnknown(f"no gate '{gate_id[:64]}'", then="See 'agentos quality gates'.")
    await work.publish(GateRemoved(gate.id, gate.scope, gate.target, gate.metric, by))
    return gate


async def freeze(work: UnitOfWork, *, scope: FreezeScope, target: str, reason: str, by: str, at: datetime) -> Freeze:
    """Let nothing in a scope be promoted until somebody lifts it.

    Raises ScopeInvalid or MalformedId (Invalid), AgentUnknown (NotFound), FrozenAlready (Conflict).
    """
    _check_target(scope is FreezeScope.ORGANIZATION, target)
    if scope is FreezeScope.AGENT:
        await agents.get_agent(work, target)
    elif target:
        ids.checked_name(target, what="role")
    one = Freeze(FreezeId(ids.new("frz")), scope, target, reason, by, at)
    if not await store.freeze(work, one):
        raise FrozenAlready(f"{scope} {target or work.organization} is frozen already", then="Lift that freeze first.")
    await work.publish(PromotionFrozen(one.id, scope, target, by))
    return one


async def unfreeze(work: UnitOfWork, *, scope: FreezeScope, target: str, reason: str, by: str, at: datetime) -> Freeze:
    """Lift a freeze. Raises FreezeUnknown (NotFound)."""
    one = await store.lift(work, scope, target, reason, by, at)
    if one is None:
        raise FreezeUnknown(f"{scope} '{target[:64]}' is not frozen", then="See 'agentos quality freezes'.")
    await work.publish(PromotionUnfrozen(one.id, scope, target, by))
    return one


async def list_freezes(work: UnitOfWork, *, most: int = 200) -> list[Freeze]:
    """Freezes in force, oldest first."""
    return await store.freezes(work, most)


def _check_gate(metric: Metric, comparator: Comparator, threshold: float, lookback: timedelta, samples: int) -> None:
    if not isfinite(threshold):
        raise GateInvalid("a threshold is a number", where="threshold", then="Write it in the metric's unit.")
    if comparator is Comparator.NO_WORSE:
        comparable = ", ".join(sorted(one.name for one in figures.METRICS.values() if one.comparable))
        if not metric.comparable:
            raise GateInvalid(
                f"two versions cannot be compared by {metric.name}", where="metric", then=f"Use one of: {comparable}."
            )
        if threshold <= 0:
            raise GateInvalid(
                f"a loss of {threshold:g} cannot be told from none", where="threshold", then="Tolerate more than 0."
            )
    if samples < 1:
        raise GateInvalid("a gate needs a sample at least", where="samples", then="Write 1 or more.")
    if not timedelta(seconds=1) <= lookback <= LONGEST_LOOKBACK:
        raise GateInvalid(
            f"a gate looks back between a second and {LONGEST_LOOKBACK.days} days", where="lookback", then="As 7d."
        )


async def _check_scope(work: UnitOfWork, scope: Scope, target: str) -> None:
    _check_target(scope is Scope.ORGANIZATION, target)
    if scope is Scope.DEPLOYMENT:
        await deployments.get(work, target)
    elif target:
        ids.checked_name(target, what="role")


def _check_target(of_all: bool, target: str) -> None:
    if of_all == bool(target):
        raise ScopeInvalid(
            "the organization has no target" if of_all else "the scope needs its target",
            where="target",
            then="Name a category, an agent or a deployment; of the organization nothing.",
        )
