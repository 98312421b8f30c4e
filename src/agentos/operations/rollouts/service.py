"""Promote, try as a canary, roll back, pause and resume: through gates, and with what each leaves open.

This is the only door: control changes a deployment, and here it is decided whether it may. A freeze blocks whatever is
new and is lifted by nobody here; gates may be overridden by somebody who may and who says why. A roll-back to what
was good, a pause and a resume pass no gate: what is known to be good needs no proof at three in the morning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Canary, Deployment, Status, was_rolled_back
from agentos.control.deployments.service import Etags
from agentos.evidence.quality import service as quality
from agentos.evidence.quality.model import Judgement, Severity
from agentos.evidence.replay import what_if
from agentos.evidence.replay.what_if import Comparison, Instead, Prepared
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import store
from agentos.operations.rollouts.impact import Change, Impact, impact
from agentos.operations.rollouts.model import (
    MOST_UNKNOWN,
    MOST_WORDS,
    RECOVERY,
    Allowance,
    CanaryRecord,
    Criterion,
    Frozen,
    GateFailed,
    GatesOverridden,
    PromotionRefused,
    ReasonMissing,
    Rollback,
    RollbackUnknown,
    Shadow,
    ShadowEnded,
    ShadowStarted,
    ShadowUnknown,
    Shown,
    Tried,
)
from agentos.runtime.runs.ports import Parts


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody wants to serve, and what they take upon themselves."""

    version: str  # number, hash or its beginning
    reason: str = ""
    accept_breaking: bool = False
    force: bool = False  # although gates refuse it
    percent: int | None = None  # as a canary of that share; None: all runs
    tried: Tried | None = None  # what recorded runs would have come to

    @property
    def change(self) -> Change:
        """What this does to the deployment."""
        return Change.PROMOTE if self.percent is None else Change.CANARY


@dataclass(frozen=True, slots=True)
class Judged:
    """A version before the gates."""

    version: Version
    judgement: Judgement
    tried: Tried | None
    blocking: tuple[str, ...]  # freezes left out
    impact: Impact

    @property
    def frozen(self) -> tuple[str, ...]:
        """The freezes in force, in words."""
        return tuple(one.said for one in self.judgement.frozen)

    @property
    def said(self) -> str:
        """What a history says of the gates."""
        known = [one for one in self.judgement.verdicts if one.passed]
        passed = len(known) + (self.tried is not None and not self.tried.faults)
        of = len(self.judgement.verdicts) + (self.tried is not None)
        return f"{passed} of {of} gates passed" if of else "no gate applied"


@dataclass(frozen=True, slots=True)
class Done:
    """What an order came to."""

    deployment: Deployment
    impact: Impact
    judged: Judged | None = None
    overridden: tuple[str, ...] = ()


async def prepare(
    work: UnitOfWork, parts: Parts, deployment_id: str, version: str, allowed: Allowance, *, at: datetime
) -> Prepared:
    """Read what it takes to try a version on the last runs of the version that serves: a canary's say nothing of it.

    Raises what ``what_if.prepare`` does.
    """
    serving = (await deployments.get(work, deployment_id)).version
    run_ids = await what_if.chosen(work, [], deployment_id, allowed.runs, version=serving or "")
    return await what_if.prepare(work, parts, run_ids, Instead(version=version), live=allowed.live, at=at)


def tried(allowed: Allowance, comparison: Comparison) -> Tried:
    """What became of the last runs under a version."""
    known = [one for one in comparison.results if one.whole]
    return Tried(
        allowed,
        len(comparison.results),
        len(known),
        comparison.outcomes_changed,
        comparison.diverged,
        sum(one.recorded.micros for one in known),
        comparison.micros_more,
    )


async def judged(work: UnitOfWork, deployment_id: str, order: Order, skills: SkillCatalogue, *, at: datetime) -> Judged:
    """What freezes and gates say of a version, and what its order would leave open. Nothing is changed.

    A promotion is blocked by a gate that fails and by one whose figure is unknown; a canary of at most half of the runs
    only by one that fails: it is there to find out. Nothing is asked of one that is to serve no more than it does.
    Raises DeploymentUnknown, VersionUnknown (NotFound).
    """
    found = await deployments.get(work, deployment_id)
    version = await agents.get_version(work, found.agent_id, order.version)
    judgement = Judgement()
    if not _no_more(order, found.canary, version):
        judgement = await quality.judge(work, found.id, version.hash, at=at)
    finds_out = order.percent is not None and order.percent <= MOST_UNKNOWN
    blocking = [
        one.reason
        for one in judgement.verdicts
        if one.gate.severity is Severity.BLOCKER and (one.passed is False or (one.passed is None and not finds_out))
    ]
    if order.tried is not None:
        blocking += order.tried.faults
    left = await impact(work, skills, found.id, order.change)
    return Judged(version, judgement, order.tried, tuple(blocking), left)


async def promote(
    work: UnitOfWork,
    deployment_id: str,
    order: Order,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    if_match: Etags = None,
) -> Done:
    """Let a version serve, all runs or a canary's share of them, if no freeze and no gate stands against it.

    ``force`` overrides gates, never a freeze; history and a fact then name each of them. A larger share for the canary
    that serves is judged like a new one, a smaller one never. Raises GateFailed, Frozen (Conflict), ReasonMissing
    (Invalid), PreconditionFailed (Conflict) also where the deployment changed while its gates were judged, and what
    ``deployments.promote`` and ``deployments.canary`` raise.
    """
    if order.percent is not None:
        deployments.check_share(order.percent)
    before, found = await _allowed(work, deployment_id, order, skills, at, if_match)
    overridden = found.blocking
    reason = _told(order, found)
    named = found.version.hash
    how: dict[str, Any] = {"by": by, "at": at, "reason": reason, "accept_breaking": order.accept_breaking}
    if order.percent is None:
        after = await deployments.promote(work, deployment_id, named, skills, **how, if_match=if_match)
        revision = after.revision
        await _close_canary(work, before, after, at)
    else:
        after = await deployments.canary(work, deployment_id, named, order.percent, skills, **how, if_match=if_match)
        assert after.canary is not None, "it was just begun"
        revision = after.canary.revision
        values = {"deployment_id": after.id, "revision": revision, "version": named, "beside": after.version}
        await store.add_canary(work, {**values, "reason": order.reason, "by": by, "at": at}, overridden)
    if overridden:
        await work.publish(GatesOverridden(after.id, named, revision, _said(overridden), by))
    return Done(after, found.impact, found, overridden)


async def refused(work: UnitOfWork, deployment_id: str, version: str, error: GateFailed | Frozen, *, by: str) -> None:
    """Leave a fact of a promotion that was refused, in a unit of work of its own."""
    found = await deployments.lock(work, deployment_id)
    known = await agents.get_version(work, found.agent_id, version)
    because = error.extra["freezes"] if isinstance(error, Frozen) else _said(error.extra["blocking"])
    await work.publish(PromotionRefused(found.id, known.hash, error.code, because, by))


async def end_canary(
    work: UnitOfWork,
    deployment_id: str,
    outcome: Status,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    because: Sequence[str] = (),
    if_match: Etags = None,
) -> Done:
    """Let the canary serve nothing more; ``because``: the breaches for which it is rolled back.

    Raises NoCanary, PreconditionFailed (Conflict).
    """
    before = await deployments.lock(work, deployment_id)
    left = await impact(work, skills, before.id, Change.CANARY)
    said = "; ".join(because) or reason
    after = await deployments.end_canary(work, before.id, outcome, by=by, reason=said, if_match=if_match)
    assert before.canary is not None, "there was one to end"
    await store.end_canary(work, before.id, before.canary.revision, outcome.value, because, at)
    return Done(after, left)


async def rollback(
    work: UnitOfWork,
    deployment_id: str,
    named: str | None,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    criterion: Criterion | None = None,
    force: bool = False,
    if_match: Etags = None,
) -> Done:
    """Let a version that served before serve again, from the next run on, and begin to check whether that helps.

    No gate and no freeze holds a roll-back to a version that was good. One that was itself rolled back is no way back:
    it passes them like a promotion. Raises as ``deployments.rollback`` and ``promote``.
    """
    seen = await deployments.get(work, deployment_id)
    target = None if named is None else await agents.get_version(work, seen.agent_id, named)
    found, overridden, told = None, tuple[str, ...](), reason
    if target is not None and was_rolled_back(await deployments.history(work, seen.id), target.hash):
        order = Order(target.hash, reason, force=force)
        before, found = await _allowed(work, seen.id, order, skills, at, if_match)
        overridden, told = found.blocking, _told(order, found)
    else:
        before = await deployments.lock(work, seen.id)
        if target is not None and was_rolled_back(await deployments.history(work, seen.id), target.hash):
            deployments.check_match(before, {seen.etag})  # it was rolled back just now
    left = await impact(work, skills, before.id, Change.ROLLBACK)
    after = await deployments.rollback(work, before.id, named, skills, by=by, at=at, reason=told, if_match=if_match)
    if overridden:
        await work.publish(GatesOverridden(after.id, after.version or "", after.revision, _said(overridden), by))
    await _close_canary(work, before, after, at)
    values = {"deployment_id": after.id, "number": after.revision, "version": after.version}
    values |= {"criterion": criterion or "", "rolled_back": before.version}
    more = {"reason": reason, "by": by, "at": at, "closes_at": at + RECOVERY}
    await store.add_rollback(work, {**values, **more})
    return Done(after, left, found, overridden)


async def pause(
    work: UnitOfWork, deployment_id: str, skills: SkillCatalogue, *, by: str, at: datetime, if_match: Etags = None
) -> Done:
    """Admit no runs, and let runs under way act no more, until resumed."""
    left = await impact(work, skills, deployment_id, Change.PAUSE)
    return Done(await deployments.pause(work, deployment_id, by=by, at=at, if_match=if_match), left)


async def resume(
    work: UnitOfWork, deployment_id: str, skills: SkillCatalogue, *, by: str, at: datetime, if_match: Etags = None
) -> Done:
    """Admit runs again; those that the pause stopped go on."""
    left = await impact(work, skills, deployment_id, Change.RESUME)
    return Done(await deployments.resume(work, deployment_id, by=by, at=at, if_match=if_match), left)


async def canaries(work: UnitOfWork, deployment_id: str, *, most: int) -> list[CanaryRecord]:
    """The canaries of a deployment, newest first. Raises DeploymentUnknown (NotFound)."""
    return await store.canaries(work, (await deployments.get(work, deployment_id)).id, most)


async def rollbacks(work: UnitOfWork, deployment_id: str, *, below: int | None, most: int) -> list[Rollback]:
    """The rollbacks of a deployment, newest first. Raises DeploymentUnknown (NotFound)."""
    found = await deployments.get(work, deployment_id)
    return await store.rollbacks(work, found.id, 2**31 - 1 if below is None else below, most)


async def get_rollback(work: UnitOfWork, deployment_id: str, number: int) -> Rollback:
    """The rollback by which a revision began to serve. Raises DeploymentUnknown or RollbackUnknown (NotFound)."""
    found = await store.rollback(work, (await deployments.get(work, deployment_id)).id, number)
    if found is None:
        raise RollbackUnknown(
            f"revision {number} came of no rollback",
            where=deployment_id,
            then=f"See 'agentos deployments validation {deployment_id}'.",
        )
    return found


async def start_shadow(
    work: UnitOfWork, deployment_id: str, named: str, percent: int, *, live: bool, by: str, at: datetime
) -> Shadow:
    """Show a version this share of the inputs of runs that end from now on, instead of the shadow before.

    Raises DeploymentUnknown, VersionUnknown (NotFound).
    """
    found = await deployments.lock(work, deployment_id)
    version = await agents.get_version(work, found.agent_id, named)
    values = {"deployment_id": found.id, "agent_id": found.agent_id, "version": version.hash, "percent": percent}
    await store.put_shadow(work, {**values, "live": live, "by": by, "at": at})
    await work.publish(ShadowStarted(found.id, version.hash, percent, live, by))
    return (await shadow(work, found.id))[0]


async def end_shadow(work: UnitOfWork, deployment_id: str, *, by: str, at: datetime) -> Shadow:
    """Show the shadow nothing more; what it came to stays. Raises ShadowUnknown (NotFound)."""
    await deployments.lock(work, deployment_id)
    found = (await shadow(work, deployment_id))[0]
    if await store.end_shadow(work, found.deployment_id, at):
        await work.publish(ShadowEnded(found.deployment_id, found.version, by))
    return (await shadow(work, deployment_id))[0]


async def shadow(work: UnitOfWork, deployment_id: str) -> tuple[Shadow, Shown]:
    """A deployment's shadow and what came of it so far. Raises DeploymentUnknown or ShadowUnknown (NotFound)."""
    found = await store.shadow(work, (await deployments.get(work, deployment_id)).id)
    if found is None:
        raise ShadowUnknown(
            "the deployment has no shadow",
            where=deployment_id,
            then=f"Begin one with 'agentos deployments shadow {deployment_id} VERSION PERCENT'.",
        )
    return found, await store.shown(work, found.deployment_id, found.version)


async def shadow_runs(work: UnitOfWork, deployment_id: str, *, before: str, most: int) -> list[dict[str, Any]]:
    """What each run would have come to under the shadow, newest first. Raises as ``shadow``."""
    found, _ = await shadow(work, deployment_id)
    return await store.shadow_runs(work, found.deployment_id, found.version, before, most)


async def _allowed(
    work: UnitOfWork, deployment_id: str, order: Order, skills: SkillCatalogue, at: datetime, if_match: Etags
) -> tuple[Deployment, Judged]:
    """The deployment, locked, in the very state in which gates were judged, and what they say; freezes as of now."""
    seen = await deployments.get(work, deployment_id)
    deployments.check_match(seen, if_match)
    found = await judged(work, deployment_id, order, skills, at=at)
    _check(deployment_id, order, found)
    before = await deployments.lock(work, deployment_id)  # only now: runs are not admitted while it is held
    deployments.check_match(before, {seen.etag})
    if not _no_more(order, before.canary, found.version):
        frozen = await quality.frozen(work, before, found.version.hash)
        _check(deployment_id, order, replace(found, judgement=replace(found.judgement, frozen=frozen)))
    return before, found


def _no_more(order: Order, canary: Canary | None, version: Version) -> bool:
    """Whether an order lets a canary serve as many runs as it does, or fewer."""
    if canary is None or order.percent is None:
        return False
    return canary.version == version.hash and order.percent <= canary.percent


def _told(order: Order, found: Judged) -> str:
    """What the history says of why a version may serve."""
    words = f"past gates: {'; '.join(found.blocking)}"[:MOST_WORDS] if found.blocking else found.said
    return f"{words}: {order.reason}" if order.reason else words


def _check(deployment_id: str, order: Order, found: Judged) -> None:
    figures: dict[str, Any] = {
        "gates": [one.document() for one in found.judgement.verdicts],
        "what_if": None if found.tried is None else found.tried.document(),
    }
    what = "promoted" if order.percent is None else "a canary"
    if found.frozen:
        raise Frozen(
            f"version {found.version.number} may not be {what}: {'; '.join(found.frozen)}"[:MOST_WORDS],
            where=deployment_id,
            then="Lift the freeze first; nothing overrides it.",
            blocking=list(found.frozen),
            freezes=[one.id for one in found.judgement.frozen],
            **figures,
        )
    if found.blocking and not order.force:
        raise GateFailed(
            f"version {found.version.number} may not be {what}: {'; '.join(found.blocking)}"[:MOST_WORDS],
            where=deployment_id,
            then="Mend the version, let a canary gather samples, or override with --force and a reason.",
            blocking=list(found.blocking),
            **figures,
        )
    if order.force and not order.reason.strip():
        raise ReasonMissing("gates are overridden only with a reason", where="reason", then="Say why.")


async def _close_canary(work: UnitOfWork, before: Deployment, after: Deployment, at: datetime) -> None:
    """Keep how the canary ended, where a change of what serves ended it."""
    if before.canary is not None and after.canary is None:
        promoted = after.revision == before.canary.revision
        outcome = Status.ACTIVE if promoted else Status.SUPERSEDED
        await store.end_canary(work, before.id, before.canary.revision, outcome.value, (), at)


def _said(reasons: Sequence[str]) -> list[str]:
    return [one[:MOST_WORDS] for one in reasons]
