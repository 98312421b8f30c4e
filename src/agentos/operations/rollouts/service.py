"""Promote, try as a canary, roll back, pause, resume, retire and set tiers: with what each leaves open.

This is the only door: control changes a deployment, and here it is decided whether it may (see ``judging``). A
roll-back to what was good, a pause and a resume pass no gate: what is known to be good needs no proof at three in the
morning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, State, Status, was_rolled_back
from agentos.control.deployments.service import Etags
from agentos.control.policy.model import Tier
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.rollouts import store
from agentos.operations.rollouts.impact import Change, Impact, impact
from agentos.operations.rollouts.judging import Judged, Order, allowed, said, told
from agentos.operations.rollouts.model import (
    RECOVERY,
    UNTRIED,
    CanaryRecord,
    Criterion,
    Frozen,
    GateFailed,
    GatesOverridden,
    PromotionRefused,
    Rollback,
    RollbackUnknown,
    Trials,
)

TURNS: Final = {
    Change.PAUSE: deployments.pause,
    Change.RESUME: deployments.resume,
    Change.RETIRE: deployments.retire,
}


@dataclass(frozen=True, slots=True)
class Done:
    """What an order came to."""

    deployment: Deployment
    impact: Impact
    judged: Judged | None = None
    overridden: tuple[str, ...] = ()


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
    before, found = await allowed(work, deployment_id, order, skills, at, if_match)
    overridden = found.blocking
    reason = told(order, found)
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
        await work.publish(GatesOverridden(after.id, named, revision, said(overridden), by))
    return Done(after, found.impact, found, overridden)


async def refused(work: UnitOfWork, deployment_id: str, version: str, error: GateFailed | Frozen, *, by: str) -> None:
    """Leave a fact of a promotion that was refused, in a unit of work of its own."""
    found = await deployments.lock(work, deployment_id)
    known = await agents.get_version(work, found.agent_id, version)
    because = error.extra["freezes"] if isinstance(error, Frozen) else said(error.extra["blocking"])
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
    why = "; ".join(because) or reason
    after = await deployments.end_canary(work, before.id, outcome, by=by, reason=why, if_match=if_match)
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
    trials: Trials = UNTRIED,
    if_match: Etags = None,
) -> Done:
    """Let a version that served before serve again, from the next run on, and begin to check whether that helps.

    No gate and no freeze holds a roll-back to a version that was good. One that was itself rolled back is no way back:
    it passes them like a promotion. Raises as ``deployments.rollback`` and ``promote``.
    """
    seen = await deployments.get(work, deployment_id)
    target = None if named is None else await agents.get_version(work, seen.agent_id, named)
    found, overridden, why = None, tuple[str, ...](), reason
    if target is not None and await _was_bad(work, seen, target):
        order = Order(target.hash, reason, force=force, trials=trials)
        before, found = await allowed(work, seen.id, order, skills, at, if_match)
        overridden, why = found.blocking, told(order, found)
    else:
        before = await deployments.lock(work, seen.id)
        if target is not None and await _was_bad(work, seen, target):
            deployments.check_match(before, {seen.etag})  # it was rolled back just now
    left = await impact(work, skills, before.id, Change.ROLLBACK)
    after = await deployments.rollback(work, before.id, named, skills, by=by, at=at, reason=why, if_match=if_match)
    if overridden:
        await work.publish(GatesOverridden(after.id, after.version or "", after.revision, said(overridden), by))
    await _close_canary(work, before, after, at)
    values = {"deployment_id": after.id, "number": after.revision, "version": after.version}
    values |= {"criterion": criterion or "", "rolled_back": before.version}
    more = {"reason": reason, "by": by, "at": at, "closes_at": at + RECOVERY}
    await store.add_rollback(work, {**values, **more})
    return Done(after, left, found, overridden)


async def turn(
    work: UnitOfWork,
    deployment_id: str,
    change: Change,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    if_match: Etags = None,
) -> Done:
    """Pause a deployment, resume it, or retire it for good; what is so already stays so.

    Raises DeploymentIsRetired (Conflict) where it is to be paused or resumed, PreconditionFailed (Conflict).
    """
    before = await deployments.lock(work, deployment_id)
    left = await impact(work, skills, before.id, change)
    after = await TURNS[change](work, before.id, by=by, at=at, if_match=if_match)
    await _close_canary(work, before, after, at)
    return Done(after, left)


async def set_tier(
    work: UnitOfWork,
    deployment_id: str,
    tier: Tier,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    if_match: Etags = None,
) -> Done:
    """Put a tier in force, from the next effect of runs under way on. Raises what ``deployments.set_tier`` does."""
    left = await impact(work, skills, deployment_id, Change.TIER, tier=tier)
    return Done(await deployments.set_tier(work, deployment_id, tier, by=by, at=at, if_match=if_match), left)


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


async def passes_gates(work: UnitOfWork, deployment_id: str, named: str) -> bool:
    """Whether a rollback to a version passes gates, because that was itself rolled back since it served.

    Raises DeploymentUnknown, VersionUnknown (NotFound).
    """
    found = await deployments.get(work, deployment_id)
    return await _was_bad(work, found, await agents.get_version(work, found.agent_id, named))


async def _was_bad(work: UnitOfWork, found: Deployment, version: Version) -> bool:
    return was_rolled_back(await deployments.history(work, found.id), version.hash)


async def _close_canary(work: UnitOfWork, before: Deployment, after: Deployment, at: datetime) -> None:
    """Keep how the canary ended, where a change of what serves ended it."""
    if before.canary is not None and after.canary is None:
        promoted = after.revision == before.canary.revision
        retired = Status.RETIRED if after.state is State.RETIRED else Status.SUPERSEDED
        outcome = Status.ACTIVE if promoted else retired
        await store.end_canary(work, before.id, before.canary.revision, outcome.value, (), at)
