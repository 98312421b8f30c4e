"""Measure and judge versions, keep gates, and freeze promotions.

Figures are of runs that ended, were not cancelled, and are no submitted draft: the others say nothing of a version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import isfinite
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Status
from agentos.evidence.evals import service as evals
from agentos.evidence.quality import drift as drifts
from agentos.evidence.quality import figures, samples, store
from agentos.evidence.quality.drift import Drift
from agentos.evidence.quality.figures import Metric, Scored
from agentos.evidence.quality.model import (
    LONGEST_LOOKBACK,
    MOST_GATES,
    MOST_RUNS,
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

# What drift looks at unless told otherwise: a day, because agents are busy by the hour of the day, against the week
# before, because they are by the day of the week.
WINDOW: Final = timedelta(days=1)
BASELINES: Final = 7  # windows
BASELINE: Final = WINDOW * BASELINES
PAST: Final = timedelta(days=30)  # what a version did before: longer than a bad one serves


async def measured(
    work: UnitOfWork, deployment_id: str, version: str, metric: str, *, since: datetime, until: datetime
) -> Figure:
    """A metric over the deployment's runs of a version that ended within a time; an empty version: of all of them.

    ``drift`` is of these runs from the same version's in the 30 days before; ``eval:DATASET`` the version's last eval.
    Raises MetricUnknown (Invalid).
    """
    one = figures.metric(metric)
    if one.kind == "eval":
        agent_id = (await deployments.get(work, deployment_id)).agent_id
        return await _examined(work, metric, agent_id, version, since, until)
    if one.kind == "drift":
        return _figure(await _drift(work, Scope.DEPLOYMENT, deployment_id, version, (since - PAST, since, until)))
    return figures.figure(
        one, await samples.of_scope(work, Scope.DEPLOYMENT, deployment_id, since, until, version=version)
    )


async def runs_of(
    work: UnitOfWork, deployment_id: str, version: str, *, since: datetime, until: datetime
) -> list[Scored]:
    """The deployment's runs of a version that ended within a time, which figures are made of; newest first."""
    return await samples.of_scope(work, Scope.DEPLOYMENT, deployment_id, since, until, version=version)


async def of_scope(
    work: UnitOfWork, scope: Scope, target: str, *, since: datetime, until: datetime
) -> Sequence[Scored]:
    """The runs that figures of a scope are made of. Raises ScopeInvalid, MalformedId or DeploymentUnknown."""
    await _check_scope(work, scope, target)
    return await samples.of_scope(work, scope, target, since, until)


async def unscored(work: UnitOfWork, scope: Scope, target: str, *, since: datetime, until: datetime) -> int:
    """How many runs of a checked scope ended within a time and are in no figure, because they have no score (yet)."""
    return await samples.unscored(work, scope, target, since, until)


async def drift(
    work: UnitOfWork,
    scope: Scope,
    target: str,
    *,
    at: datetime,
    window: timedelta = WINDOW,
    baseline: timedelta = BASELINE,
    least: int = drifts.LEAST,
) -> Drift:
    """How far the runs of the window before ``at`` are from those of the baseline before it.

    Raises ScopeInvalid or MalformedId (Invalid), DeploymentUnknown (NotFound).
    """
    await _check_scope(work, scope, target)
    return await _drift(work, scope, target, "", (at - window - baseline, at - window, at), least=least)


async def _drift(
    work: UnitOfWork,
    scope: Scope,
    target: str,
    version: str,
    times: tuple[datetime, datetime, datetime],
    *,
    least: int = drifts.LEAST,
) -> Drift:
    now, before, left_out = await samples.windows(work, scope, target, version, times)
    return replace(drifts.measure(now, before, least=least), left_out=left_out)


async def judge(
    work: UnitOfWork,
    deployment_id: str,
    version: str,
    *,
    at: datetime,
    tried: Mapping[str, Mapping[str, Figure]] | None = None,
) -> Judgement:
    """What every gate of the deployment, of its roles and of the organization says of a version, and what freezes it.

    The roles are the version's own category and that of the version that serves (where none does: that served last), so
    nobody leaves a gate behind by naming another category; a deployment that was retired leaves its gates to the one
    that stands in its place. Figures are of the version's runs in every deployment of the agent, so those of a staging
    environment and of a canary count; drift is of the gate's own scope. ``tried``: by gate, figures of recorded runs
    that were executed again under the version; without them they are unknown. Raises DeploymentUnknown or
    VersionUnknown (NotFound), MalformedId (Invalid).
    """
    deployment = await deployments.get(work, deployment_id)
    verdicts = []
    for gate in await gates_of(work, deployment, version):
        since = at - gate.lookback
        if gate.metric == "drift":
            least, baseline = max(drifts.LEAST, gate.samples), gate.lookback * BASELINES
            target = deployment.id if gate.scope is Scope.DEPLOYMENT else gate.target
            found = await drift(work, gate.scope, target, at=at, window=gate.lookback, baseline=baseline, least=least)
            verdicts.append(verdict(gate, _figure(found)))
            continue
        if gate.metric.startswith(figures.EVAL):
            examined = await _examined(
                work, gate.metric, deployment.agent_id, version, since, at, hashed=gate.dataset_hash
            )
            verdicts.append(verdict(gate, examined))
            continue
        if gate.metric in figures.WHAT_IFS:
            known = (tried or {}).get(gate.id, {}).get(gate.metric, Figure(None, None, None, 0))
            verdicts.append(verdict(gate, known))
            continue
        candidate = await samples.of_version(work, deployment.agent_id, version, since, at)
        if gate.comparator is not Comparator.NO_WORSE:
            verdicts.append(verdict(gate, figures.figure(figures.metric(gate.metric), candidate)))
            continue
        serving: Sequence[Scored] | None = None
        if deployment.version is not None:
            serving = await samples.of_version(work, deployment.agent_id, deployment.version, since, at)
        verdicts.append(compared(gate, candidate, serving))
    return Judgement(tuple(verdicts), await frozen(work, deployment, version))


async def gates_of(work: UnitOfWork, deployment: Deployment, version: str) -> list[Gate]:
    """Every gate that a version must pass to serve there, oldest first. Raises VersionUnknown (NotFound)."""
    roles = await _roles(work, deployment, version)
    return await store.gates_of(work, roles, deployment.agent_id, deployment.environment)


async def frozen(work: UnitOfWork, deployment: Deployment, version: str) -> tuple[Freeze, ...]:
    """The freezes in force that hold a version there. Raises VersionUnknown (NotFound)."""
    return tuple(await store.freezes_of(work, await _roles(work, deployment, version), deployment.agent_id))


async def _roles(work: UnitOfWork, deployment: Deployment, version: str) -> list[str]:
    before = deployment.version
    if before is None:
        before = await deployments.last_served(work, deployment.agent_id, deployment.environment)
    hashes = {version} | ({before} if before else set())
    return sorted({(await agents.get_version(work, deployment.agent_id, one)).definition.category for one in hashes})


async def judge_named(work: UnitOfWork, deployment_id: str, named: str, *, at: datetime) -> tuple[Version, Judgement]:
    """The same of the version that a hash, the beginning of one or a number names.

    Without a name: of the newest draft; where there is none, of the canary or what serves. Raises
    DeploymentUnknown or VersionUnknown (NotFound), VersionAmbiguous (Invalid).
    """
    deployment = await deployments.get(work, deployment_id)
    if not named:
        past = await deployments.history(work, deployment.id)
        drafts = [one.version for one in past if one.status is Status.DRAFT]
        canary = [deployment.canary.version] if deployment.canary else []
        named = next(iter([*drafts, *canary, deployment.version or past[0].version]))
    version = await agents.get_version(work, deployment.agent_id, named)
    return version, await judge(work, deployment_id, version.hash, at=at)


def verdict(gate: Gate, found: Figure) -> Verdict:
    """What a gate says of a figure; unknown with fewer samples than it asks for."""
    passed = None
    if found.value is not None and found.samples >= gate.samples:
        passed = gate.comparator.holds(found.value, gate.threshold)
    return Verdict(gate, found.value, found.low, found.high, found.samples, passed)


async def _examined(
    work: UnitOfWork, metric: str, agent_id: str, version: str, since: datetime, until: datetime, *, hashed: str = ""
) -> Figure:
    """The figure of the version's last eval on a data set; unknown where none ended within the time.

    ``hashed``: over that content of it, else over the newest.
    """
    found = await evals.latest(work, agent_id, version, figures.dataset_of(metric), hashed=hashed)
    if found is None or not since <= found.ended_at <= until:
        return Figure(None, None, None, 0)
    return Figure(found.value, found.low, found.high, found.samples)


def _figure(found: Drift) -> Figure:
    return Figure(found.score, found.low, found.high, min(found.samples, found.baseline_samples))


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
    enough = None
    if metric.bounded and theirs.value is not None and gate.threshold < 1:
        enough = figures.samples_for(gate.threshold, theirs.value)
    return Verdict(gate, ours.value, ours.low, ours.high, ours.samples, passed, theirs, lost, enough)


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
    """Add a gate; it applies from now on. One on an eval is of the newest content that its data set has by now.

    Who adds another content to the data set does not change what the gate asks: that takes a new gate. Raises
    MetricUnknown, GateInvalid, ScopeInvalid or MalformedId (Invalid), DeploymentUnknown or DatasetUnknown (NotFound),
    GateKnown or GatesFull (Conflict).
    """
    _check_gate(figures.metric(metric), comparator, threshold, lookback, samples)
    await _check_scope(work, scope, target)
    if scope is Scope.ROLE:
        await _check_role(work, target)
    if await store.count_gates(work) >= MOST_GATES:
        raise GatesFull(f"there are {MOST_GATES} gates already", then="Remove one that no longer matters.")
    hashed = ""
    if metric.startswith(figures.EVAL):
        hashed = (await evals.get_dataset(work, figures.dataset_of(metric))).hash
    gate_id = GateId(ids.new("gate"))
    gate = Gate(gate_id, scope, target, metric, comparator, threshold, lookback, samples, severity, by, at, hashed)
    if not await store.add_gate(work, gate):
        raise GateKnown(
            f"there is a gate like this one: {gate.said}", then="Remove it first, to set another threshold."
        )
    seconds = int(lookback.total_seconds())
    await work.publish(
        GateAdded(gate.id, scope, target, metric, comparator, threshold, seconds, samples, severity, by, hashed)
    )
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

    Raises ScopeInvalid (also for a role that no agent has) or MalformedId (Invalid), AgentUnknown (NotFound),
    FrozenAlready (Conflict).
    """
    _check_target(scope is FreezeScope.ORGANIZATION, target)
    if scope is FreezeScope.AGENT:
        await agents.get_agent(work, target)
    elif target:
        await _check_role(work, target)
    one = Freeze(FreezeId(ids.new("frz")), scope, target, reason, by, at)
    if not await store.freeze(work, one):
        raise FrozenAlready(f"{scope} {target or work.organization} is frozen already", then="Lift that freeze first.")
    await work.publish(PromotionFrozen(one.id, scope, target, by))
    return one


async def unfreeze(work: UnitOfWork, freeze_id: str, *, reason: str, by: str, at: datetime) -> Freeze:
    """Lift a freeze. Raises FreezeUnknown (NotFound)."""
    one = await store.lift(work, freeze_id, reason, by, at)
    if one is None:
        raise FreezeUnknown(f"no freeze '{freeze_id[:64]}' is in force", then="See 'agentos quality freezes'.")
    await work.publish(PromotionUnfrozen(one.id, one.scope, one.target, by))
    return one


async def list_freezes(work: UnitOfWork, *, after: str = "", most: int = 200) -> list[Freeze]:
    """Freezes in force, oldest first."""
    return await store.freezes(work, after, most)


def _check_gate(metric: Metric, comparator: Comparator, threshold: float, lookback: timedelta, samples: int) -> None:
    if not isfinite(threshold):
        raise GateInvalid("a threshold is a number", where="threshold", then="Write it in the metric's unit.")
    if metric.bounded and (not 0 <= threshold <= 1 or (comparator is Comparator.NO_WORSE and threshold == 1)):
        raise GateInvalid(
            f"{metric.name} is between 0 and 1: a threshold of {threshold:g} says the same of every version",
            where="threshold",
            then="Write 0.9 for 90 %.",
        )
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
    if not 1 <= samples <= MOST_RUNS:
        raise GateInvalid(f"a gate asks for 1 to {MOST_RUNS} samples", where="samples", then="Ask for fewer.")
    if metric.kind == "what_if" and samples > figures.MOST_TRIED:
        raise GateInvalid(
            f"a gate on recorded runs asks for 1 to {figures.MOST_TRIED} of them",
            where="samples",
            then="Ask for fewer.",
        )
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


async def _check_role(work: UnitOfWork, role: str) -> None:
    """Return where an agent is of that category, or was: a name that is misspelt would hold nothing."""
    ids.checked_name(role, what="role")
    if not await agents.has_category(work, role):
        raise ScopeInvalid(
            f"no agent is of the category '{role}'",
            where="target",
            then="See 'agentos agents list' for those there are.",
        )


def _check_target(of_all: bool, target: str) -> None:
    if of_all == bool(target):
        raise ScopeInvalid(
            "the organization has no target" if of_all else "the scope needs its target",
            where="target",
            then="Name a category, an agent or a deployment; of the organization nothing.",
        )
