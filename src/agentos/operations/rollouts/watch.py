"""Canaries and the checks of rollbacks, looked at over and over by every worker, on data as it comes in.

A canary is rolled back for a breach that is shown: a gate that its own runs fail with the gate's samples, or figures
that are worse than those of the version beside it. What is unknown is neither: the canary goes on. It is looked at
hundreds of times, so the comparison of success asks for 99.9 %, that of durations for intervals that do not touch.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Status
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Comparator, Figure, MetricUnknown, Scope, Severity, Verdict
from agentos.kernel import clock
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.statistics import newcombe
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
LEVEL: Final = 0.999  # of the interval of a loss of success: looked at 360 times, 3 in 10 would be wrong at 95 %
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
    """Why a canary is to be rolled back, with figures; empty while nothing is shown against it."""
    found = []
    for verdict in (await quality.judge(work, deployment.id, one.version, at=at)).verdicts:
        if verdict.gate.severity is Severity.BLOCKER and (why := await _fails(work, verdict, one, at)):
            found.append(why)
    least = settings.canary_samples
    ours, theirs = await compared(work, one, "success_rate", at=at)
    if why := _less_success(ours, theirs, least):
        found.append(why)
    ours, theirs = await compared(work, one, "run_seconds_p95", at=at)
    if _enough(ours, theirs, least) and ours.low is not None and theirs.high is not None and ours.low > theirs.high:
        found.append(f"run_seconds_p95 of the canary {shown(ours)}, of the version beside it {shown(theirs)}")
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


def shown(figure: Figure) -> str:
    """A figure in words."""
    if figure.value is None:
        return "unknown (no samples)"
    ends = [f"{end:.3g}" if end is not None else "unknown" for end in (figure.low, figure.high)]
    return f"{figure.value:.3g} ({' to '.join(ends)}, {figure.samples} samples)"


async def _fails(work: UnitOfWork, verdict: Verdict, one: CanaryRecord, at: datetime) -> str:
    """Why a gate ends the canary. What failed before it began was overridden then, and counts anew since."""
    gate = verdict.gate
    if gate.comparator is Comparator.NO_WORSE:
        lost = verdict.loss
        known = lost is not None and lost.low is not None and lost.samples >= gate.samples
        if not known or lost is None or lost.low is None or lost.low <= gate.threshold:
            return ""
        return "" if any(gate.said in said for said in one.overridden) else verdict.reason
    since = max(one.started_at, at - gate.lookback)
    try:
        figure = await quality.measured(work, one.deployment_id, one.version, gate.metric, since=since, until=at)
    except MetricUnknown:  # of no runs, as an evaluation's is: what was known of it was judged before the canary began
        return ""
    if figure.value is None or figure.samples < gate.samples or gate.comparator.holds(figure.value, gate.threshold):
        return ""
    return f"{gate.said}: failed with {shown(figure)}"


def _less_success(ours: Figure, theirs: Figure, least: int) -> str:
    if not _enough(ours, theirs, least) or ours.value is None or theirs.value is None:
        return ""
    hits = [(round(one.value * one.samples), one.samples) for one in (theirs, ours) if one.value is not None]
    lost = newcombe(*hits[0], *hits[1], level=LEVEL)
    if lost is None or lost.low <= 0:
        return ""
    return f"success_rate of the canary {shown(ours)}, of the version beside it {shown(theirs)}"


def _enough(ours: Figure, theirs: Figure, least: int) -> bool:
    return min(ours.samples, theirs.samples) >= least


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
