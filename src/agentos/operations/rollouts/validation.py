"""Whether a rollback helped: are runs dispatched, does success recover in time, does drift fall?

Each check is of runs that were admitted on the revision that the rollback began, and of no other: runs of the same
version that were under way from before say nothing of recovery.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from agentos.evidence.quality import service as quality
from agentos.evidence.quality.drift import Drift, measure
from agentos.evidence.quality.figures import METRICS, figure, rate
from agentos.evidence.quality.model import Figure, Scope
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import figures, store
from agentos.operations.rollouts.figures import in_words
from agentos.operations.rollouts.model import SUCCESS, Check, Outcome, Rollback, shown
from agentos.operations.rollouts.settings import RolloutSettings

BEFORE: Final = timedelta(hours=1)  # before a rollback, as what it is compared with


async def checks(work: UnitOfWork, one: Rollback, settings: RolloutSettings, *, at: datetime) -> tuple[Check, ...]:
    """What the checks of a rollback say by then: are runs dispatched, does success recover in time, does drift fall?"""
    return await _dispatch(work, one, at), await _success(work, one, settings, at), await _drift(work, one, at)


async def _dispatch(work: UnitOfWork, one: Rollback, at: datetime) -> Check:
    admitted, started = await store.dispatched(work, one.deployment_id, one.number, one.closes_at)
    share = shown(rate(started, admitted))
    known: dict[str, Any] = {"admitted": admitted, "started": started, "started_share": share}
    if started:
        said = f"{started} of {admitted} runs that were admitted since have started in time on revision {one.number}"
        return Check("dispatch", Outcome.PASSED, said, known)
    if at < one.closes_at:
        return Check("dispatch", Outcome.WAITING, "no run has started since", known)
    outcome = Outcome.FAILED if admitted else Outcome.UNKNOWN
    said = f"none of {admitted} runs has started" if admitted else "nobody asked for a run in time"
    return Check("dispatch", outcome, said, known)


async def _success(work: UnitOfWork, one: Rollback, settings: RolloutSettings, at: datetime) -> Check:
    least, until = settings.validation_samples, min(at, one.closes_at)
    own = await figures.runs_of(work, one.deployment_id, one.number, one.version, since=one.at, until=until)
    since = figure(METRICS["success_rate"], own)
    before = await quality.measured(
        work, one.deployment_id, one.rolled_back, "success_rate", since=one.at - BEFORE, until=one.at
    )
    known = {**_known("success_rate", since, before), "samples_needed": least, "at_least": SUCCESS}
    enough = since.value is not None and since.samples >= least
    if enough and since.value is not None and since.value >= SUCCESS:
        return Check(
            "success", Outcome.PASSED, f"success_rate is {in_words(since)}, before it was {in_words(before)}", known
        )
    if at < one.closes_at:
        said = f"success_rate is {in_words(since)} of {least} samples until {one.closes_at:%H:%M:%SZ}"
        return Check("success", Outcome.WAITING, said, known)
    if enough:
        return Check("success", Outcome.FAILED, f"success_rate did not recover: {in_words(since)}", known)
    return Check("success", Outcome.UNKNOWN, f"{since.samples} of {least} samples came in time", known)


async def _drift(work: UnitOfWork, one: Rollback, at: datetime) -> Check:
    """Whether runs since are nearer to what the version did before than those of the version that was rolled back."""
    until, past = min(at, one.closes_at), one.at - quality.PAST
    own = await figures.runs_of(work, one.deployment_id, one.number, one.version, since=one.at, until=until)
    since = measure(own, await quality.runs_of(work, one.deployment_id, one.version, since=past, until=one.at))
    before = await quality.drift(work, Scope.DEPLOYMENT, one.deployment_id, at=one.at, window=BEFORE)
    known = _known("drift", _figure(since), _figure(before))
    if since.score is not None and before.score is not None:
        said = f"drift is {in_words(_figure(since))}, before it was {in_words(_figure(before))}"
        if since.score < before.score or since.score == 0:
            return Check("drift", Outcome.PASSED, said, known)
        return Check("drift", Outcome.WAITING if at < one.closes_at else Outcome.FAILED, said, known)
    missing = f"of now: {since.samples} samples; of before: {before.unknown or before.samples}"
    outcome = Outcome.WAITING if at < one.closes_at else Outcome.UNKNOWN
    return Check("drift", outcome, f"drift is unknown ({missing})", known)


def _known(name: str, since: Figure, before: Figure) -> dict[str, Any]:
    """What a check stands on: a figure of since and of before, each with its 95 % interval and samples."""
    found = {name: since.value, "low": since.low, "high": since.high, "samples": since.samples}
    found |= {"before": before.value, "low_before": before.low, "high_before": before.high}
    found |= {"samples_before": before.samples}
    return {key: "unknown" if value is None else value for key, value in found.items()}


def _figure(found: Drift) -> Figure:
    return Figure(found.score, found.low, found.high, found.samples)
