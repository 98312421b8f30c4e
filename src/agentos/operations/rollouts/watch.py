"""Canaries and the checks of rollbacks, looked at over and over by every worker, on data as it comes in.

A canary is rolled back for a breach that is shown: a gate that its own runs fail with the gate's samples, or figures
that are worse than those of the version beside it. What is unknown is neither: the canary goes on. It is looked at
hundreds of times, so gates and the comparison of success ask for 99.9 %, that of durations for intervals that do not
touch; and by one worker at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Status
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.figures import METRICS, Metric, Scored, figure, loss, samples
from agentos.evidence.quality.model import Comparator, Figure, Gate, Scope, Severity
from agentos.kernel import clock
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.statistics import binomial
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import ROLLBACKS
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.operations.rollouts import service, store
from agentos.operations.rollouts.model import (
    SUCCESS,
    CanaryBreached,
    CanaryRecord,
    Check,
    Outcome,
    Rollback,
    RollbackValidated,
    overall,
)
from agentos.operations.rollouts.settings import RolloutSettings

log = structlog.get_logger(__name__)

PLATFORM: Final = "platform:canary"  # who ends a canary by itself
PAGE: Final = 1000  # deployments that are looked at in one turn
LEVEL: Final = 0.999  # of what ends a canary: looked at 360 times, 3 in 10 would be wrong at 95 %
BESIDE: Final = timedelta(days=1)  # before a canary: what it is compared with while the other has too few runs since
BEFORE: Final = timedelta(hours=1)  # before a rollback, as what it is compared with


@dataclass(frozen=True, slots=True)
class Watched:
    """What a look at one deployment came to."""

    breaches: tuple[str, ...] = ()
    validated: tuple[Rollback, ...] = ()


async def watch(
    work: UnitOfWork, deployment_id: str, skills: SkillCatalogue, settings: RolloutSettings, *, at: datetime
) -> Watched:
    """Roll back a canary that is shown to breach, and settle the checks of rollbacks. Safe to repeat."""
    deployment = await deployments.get(work, deployment_id)
    waiting = await store.waiting(work, deployment.id)
    validated = tuple([one for one in waiting if await _settle(work, deployment, one, settings, at)])
    last = await store.canaries(work, deployment.id, 1)
    if not last or last[0].outcome != "open":
        return Watched((), validated)
    if not await store.alone(work, deployment.id):  # another worker is at it
        return Watched((), validated)
    breaches = await breached(work, deployment, last[0], settings, at=at)
    if breaches or deployment.canary is None:  # before anything is ended: what is it by now?
        deployment = await deployments.lock(work, deployment.id)
    canary = deployment.canary
    if canary is None:  # a retirement ended it, which passes by no gate; or another worker did
        await store.end_canary(work, deployment.id, last[0].revision, Status.RETIRED.value, (), at)
        return Watched((), validated)
    if canary.revision != last[0].revision:  # another one began meanwhile: it is looked at next
        return Watched((), validated)
    if breaches:
        how: dict[str, Any] = {"by": PLATFORM, "at": at, "because": breaches}
        await service.end_canary(work, deployment.id, Status.ROLLED_BACK, skills, **how)
        revision, version = last[0].revision, last[0].version
        await work.publish(CanaryBreached(deployment.id, deployment.agent_id, revision, version, list(breaches)))
    return Watched(breaches, validated)


async def breached(
    work: UnitOfWork, deployment: Deployment, one: CanaryRecord, settings: RolloutSettings, *, at: datetime
) -> tuple[str, ...]:
    """Why a canary is to be rolled back, with figures; empty while nothing is shown against it.

    Everything is of runs in its own deployment since it began, of the version beside it also of the time before.
    """
    ours = await quality.runs_of(work, deployment.id, one.version, since=one.started_at, until=at)
    theirs = Beside(work, one, at)
    found = []
    for gate in await quality.gates_of(work, deployment, one.version):
        if gate.severity is Severity.BLOCKER and (why := await fails(gate, one, ours, theirs, at)):
            found.append(why)
    least = settings.canary_samples
    success, seconds = METRICS["success_rate"], METRICS["run_seconds_p95"]
    beside = await theirs.runs(success, BESIDE, least)
    if min(len(ours), len(beside)) >= least:
        lost = loss(success, ours, beside, level=LEVEL)
        if lost.low is not None and lost.low > 0:
            found.append(_worse(success, ours, beside))
        slow, usual = figure(seconds, ours), figure(seconds, beside)
        if slow.low is not None and usual.high is not None and slow.low > usual.high:
            found.append(_worse(seconds, ours, beside))
    return tuple(found)


async def compared(work: UnitOfWork, one: CanaryRecord, metric: str, *, at: datetime) -> tuple[Figure, Figure]:
    """A figure of the canary and of the version beside it, in this deployment since the canary began."""
    until = one.ended_at or at
    ours, theirs = [
        await quality.measured(work, one.deployment_id, version, metric, since=one.started_at, until=until)
        for version in (one.version, one.beside)
    ]
    return ours, theirs


async def checks(work: UnitOfWork, one: Rollback, settings: RolloutSettings, *, at: datetime) -> tuple[Check, ...]:
    """What the checks of a rollback say by then: are runs dispatched, does success recover in time, does drift fall?"""
    return await _dispatch(work, one, at), await _success(work, one, settings, at), await _drift(work, one, at)


def shown(found: Figure) -> str:
    """A figure in words."""
    if found.value is None:
        return "unknown (no samples)"
    ends = [f"{end:.3g}" if end is not None else "unknown" for end in (found.low, found.high)]
    return f"{found.value:.3g} ({' to '.join(ends)}, {found.samples} samples)"


@dataclass
class Beside:
    """The runs of the version beside a canary, each lookback read once."""

    work: UnitOfWork
    one: CanaryRecord
    at: datetime
    known: dict[timedelta, list[Scored]] = field(default_factory=dict)

    async def runs(self, metric: Metric, lookback: timedelta, least: int) -> list[Scored]:
        """Those since the canary began; with too few of them those of the lookback before as well."""
        since = await self._read(timedelta(0))
        return since if len(samples(metric, since)) >= least else await self._read(lookback)

    async def _read(self, before: timedelta) -> list[Scored]:
        if before not in self.known:
            of, since = self.one, self.one.started_at - before
            self.known[before] = await quality.runs_of(
                self.work, of.deployment_id, of.beside, since=since, until=self.at
            )
        return self.known[before]


async def fails(gate: Gate, one: CanaryRecord, ours: Sequence[Scored], theirs: Beside, at: datetime) -> str:
    """Why a gate ends the canary: its 99.9 % interval lies beyond what the gate asks for.

    What failed before it began was overridden then, and counts anew since. A count only grows, a gap has no interval of
    that level, a drift is of the whole scope, and an eval was judged before the canary began: those end none.
    """
    if gate.metric not in METRICS or METRICS[gate.metric].kind not in ("rate", "mean", "p95"):
        return ""
    metric = METRICS[gate.metric]
    mine = [run for run in ours if run.ended_at >= at - gate.lookback]
    if gate.comparator is Comparator.NO_WORSE:
        if any(gate.said in said for said in one.overridden):
            return ""
        beside = await theirs.runs(metric, gate.lookback, gate.samples)
        lost = loss(metric, mine, beside, level=LEVEL)
        if lost.samples < gate.samples or lost.low is None or lost.low <= gate.threshold:
            return ""
        return f"{gate.said}: failed, worse by {shown(lost)}; {_worse(metric, mine, beside)}"
    known = figure(metric, mine, level=LEVEL)
    upper = gate.comparator in (Comparator.AT_MOST, Comparator.BELOW)
    if metric.kind == "p95" and upper:  # by order statistics: too many runs beyond, whatever its upper end is
        within = sum(gate.comparator.holds(value, gate.threshold) for value in samples(metric, mine))
        is_shown = known.samples >= gate.samples and binomial(within, known.samples, 0.95) <= (1 - LEVEL) / 2
        return f"{gate.said}: failed with {shown(known)}, {within} runs within it" if is_shown else ""
    best = known.low if upper else known.high
    if known.samples < gate.samples or best is None or gate.comparator.holds(best, gate.threshold):
        return ""
    return f"{gate.said}: failed with {shown(known)}"


def _worse(metric: Metric, ours: Sequence[Scored], theirs: Sequence[Scored]) -> str:
    mine, others = figure(metric, ours), figure(metric, theirs)
    return f"{metric.name} of the canary {shown(mine)}, of the version beside it {shown(others)}"


async def _settle(
    work: UnitOfWork, deployment: Deployment, one: Rollback, settings: RolloutSettings, at: datetime
) -> bool:
    """Keep what the checks say by now; whether that is the last word."""
    found = await checks(work, one, settings, at=at)
    if deployment.revision != one.number:  # nothing more comes in: another version serves
        found = tuple(_left(check) for check in found)
    outcome = overall([check.outcome for check in found])
    await store.checked(work, one, outcome, [check.document() for check in found], at)
    if outcome is Outcome.WAITING:
        return False
    said = {check.name: check.outcome.value for check in found}
    await deployments.lock(work, deployment.id)
    await work.publish(RollbackValidated(one.deployment_id, one.number, one.version, outcome.value, said))
    return True


def _left(check: Check) -> Check:
    if check.outcome is not Outcome.WAITING:
        return check
    return Check(check.name, Outcome.UNKNOWN, "another version serves since: nobody can tell any more", check.figures)


async def _dispatch(work: UnitOfWork, one: Rollback, at: datetime) -> Check:
    admitted, started = await store.dispatched(work, one.deployment_id, one.number)
    figures: dict[str, Any] = {"admitted": admitted, "started": started}
    if started:
        said = f"{started} of {admitted} runs that were admitted since have started on revision {one.number}"
        return Check("dispatch", Outcome.PASSED, said, figures)
    if at < one.closes_at:
        return Check("dispatch", Outcome.WAITING, "no run has started since", figures)
    outcome = Outcome.FAILED if admitted else Outcome.UNKNOWN
    said = f"none of {admitted} runs has started" if admitted else "nobody asked for a run in time"
    return Check("dispatch", outcome, said, figures)


async def _success(work: UnitOfWork, one: Rollback, settings: RolloutSettings, at: datetime) -> Check:
    least, until = settings.validation_samples, min(at, one.closes_at)
    since = await quality.measured(work, one.deployment_id, one.version, "success_rate", since=one.at, until=until)
    before = await quality.measured(
        work, one.deployment_id, one.rolled_back, "success_rate", since=one.at - BEFORE, until=one.at
    )
    figures = {
        "success_rate": "unknown" if since.value is None else since.value,
        "samples": since.samples,
        "samples_needed": least,
        "at_least": SUCCESS,
        "before": "unknown" if before.value is None else before.value,
        "samples_before": before.samples,
    }
    enough = since.value is not None and since.samples >= least
    if enough and since.value is not None and since.value >= SUCCESS:
        return Check(
            "success", Outcome.PASSED, f"success_rate is {shown(since)}, before it was {shown(before)}", figures
        )
    if at < one.closes_at:
        said = f"success_rate is {shown(since)} of {least} samples until {one.closes_at:%H:%M:%SZ}"
        return Check("success", Outcome.WAITING, said, figures)
    if enough:
        return Check("success", Outcome.FAILED, f"success_rate did not recover: {shown(since)}", figures)
    return Check("success", Outcome.UNKNOWN, f"{since.samples} of {least} samples came in time", figures)


async def _drift(work: UnitOfWork, one: Rollback, at: datetime) -> Check:
    """Whether runs since are nearer to what the version did before than those of the version that was rolled back."""
    until = min(at, one.closes_at)
    since = await quality.measured(work, one.deployment_id, one.version, "drift", since=one.at, until=until)
    before = await quality.drift(work, Scope.DEPLOYMENT, one.deployment_id, at=one.at, window=BEFORE)
    figures = {
        "drift": "unknown" if since.value is None else since.value,
        "samples": since.samples,
        "before": "unknown" if before.score is None else before.score,
        "samples_before": before.samples,
    }
    if since.value is not None and before.score is not None:
        said = f"drift is {shown(since)}, before it was {before.score:.3g}"
        if since.value < before.score or since.value == 0:
            return Check("drift", Outcome.PASSED, said, figures)
        return Check("drift", Outcome.WAITING if at < one.closes_at else Outcome.FAILED, said, figures)
    missing = f"of now: {since.samples} samples; of before: {before.unknown or before.samples}"
    outcome = Outcome.WAITING if at < one.closes_at else Outcome.UNKNOWN
    return Check("drift", outcome, f"drift is unknown ({missing})", figures)


async def tick(
    doors: Doors, skills: SkillCatalogue, settings: RolloutSettings, meter: Meter, at: datetime | None = None
) -> int:
    """Look once at everything that is watched; how many deployments that were. Raises DatabaseUnavailable.

    ``at``: the time that it is taken to be.
    """
    async with doors.database.connection("agentos_system") as connection:
        rows = await store.watched(connection, PAGE)
    for row in rows:
        try:
            async with doors.open(OrgId(row.org)) as work:
                found = await watch(work, row.deployment_id, skills, settings, at=at or clock.now())
                agent_id = (await deployments.get(work, row.deployment_id)).agent_id
        except Unavailable:
            raise
        except Exception as error:  # one that cannot be judged keeps no other from it; the next look tries it again
            log.exception("rollout_not_watched", deployment=row.deployment_id, error=type(error).__name__)
            continue
        if found.breaches:
            log.warning("canary_rolled_back", deployment=row.deployment_id, because=list(found.breaches))
            meter.count(ROLLBACKS, org=row.org, agent_id=agent_id, deployment=row.deployment_id, cause="canary")
    return len(rows)


async def watch_for_ever(
    doors: Doors, skills: SkillCatalogue, settings: RolloutSettings, meter: Meter, stop: asyncio.Event
) -> None:
    """Look until ``stop``; a database that is away is waited for."""
    while not stop.is_set():
        try:
            await tick(doors, skills, settings, meter)
        except Exception as error:  # the watch outlives every outage
            log.warning("rollouts_wait", error=type(error).__name__)
        try:
            await asyncio.wait_for(stop.wait(), settings.look_seconds)
        except TimeoutError:
            continue
