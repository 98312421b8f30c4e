"""Change deployments: promote, try as a canary, roll back, pause, resume, retire, set tiers; and read them.

Every change locks its deployment, so changes of one deployment happen one after the other. Promotions and roll-backs
touch no run: runs are pinned to the version that they were admitted with. Whatever withholds action or changes what may
be done bumps the deployment's epoch, so nothing acts any more on a decision made before.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import changes, store
from agentos.control.deployments.model import (
    BadShare,
    CanaryResized,
    CanaryRuns,
    CanaryStarted,
    Deployment,
    DeploymentPaused,
    DeploymentResumed,
    DeploymentRetired,
    DeploymentUnknown,
    NeverServed,
    NoCanary,
    NoLastKnownGood,
    NothingServes,
    PreconditionFailed,
    Revision,
    ServesAlready,
    State,
    Status,
    last_known_good,
    served,
)
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, Saved, Tier
from agentos.kernel import epochs, ids
from agentos.kernel.unit_of_work import UnitOfWork

Etags = Collection[int] | None  # those that the caller accepts; None: any

MOST_SHARE: Final = 99  # percent of the runs that a canary may serve: one that serves all is promoted


async def promote(
    work: UnitOfWork,
    deployment_id: str,
    named: str,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    accept_breaking: bool = False,
    if_match: Etags = None,
) -> Deployment:
    """Let a version serve from the next admission on. Its draft becomes the revision that serves, else a new one does.

    A tier above the version's highest comes down to it, and never goes up by itself. A skill in another version that
    breaks who relied on the one that serves is refused unless ``accept_breaking``, which the history then tells. Raises
    ServesAlready, NotPromotable, SkillContractBroken, DeploymentIsRetired, PreconditionFailed (Conflict),
    VersionUnknown (NotFound).
    """
    found = await _changing(work, deployment_id, if_match)
    version = await agents.get_version(work, found.agent_id, named)
    why = await changes.may_serve(work, found, version, skills, "promoted", accept_breaking=accept_breaking)
    past = await store.history(work, found.id)
    return await changes.serve(
        work, found, past, version, Status.SUPERSEDED, changes.because(why, reason), by=by, at=at
    )


async def rollback(
    work: UnitOfWork,
    deployment_id: str,
    named: str | None,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    if_match: Etags = None,
) -> Deployment:
    """Take the serving version out, and let one that served before serve again: the last known good when none is named.

    History is only added to: the version serves again under a new revision. Raises NoLastKnownGood, NeverServed,
    ServesAlready, NothingServes, NotPromotable, DeploymentIsRetired, PreconditionFailed (Conflict), VersionUnknown
    (NotFound).
    """
    found = await _changing(work, deployment_id, if_match)
    if found.version is None:
        raise NothingServes("no version serves, so there is nothing to roll back", where=found.id)
    past = await store.history(work, found.id)
    if named is None:
        target = last_known_good(past, found.revision)
        if target is None:
            raise NoLastKnownGood(
                "no earlier version is known to have been good",
                where=found.id,
                then="Name a version, or pause the deployment and promote a mended one.",
            )
        version = await agents.get_version(work, found.agent_id, target.version)
    else:
        version = await agents.get_version(work, found.agent_id, named)
        if version.hash == found.version:
            raise ServesAlready(f"version {version.number} is the one that serves", where=found.id)
        target = served(past, version.hash)
        if target is None:
            raise NeverServed(
                f"version {version.number} never served here",
                where=found.id,
                then="Promote it, or roll back to a version of the history.",
            )
    await changes.check_skills(version, skills)
    why = changes.because(f"rollback to revision {target.number}", reason)
    return await changes.serve(work, found, past, version, Status.ROLLED_BACK, why, by=by, at=at)


async def canary(
    work: UnitOfWork,
    deployment_id: str,
    named: str,
    percent: int,
    skills: SkillCatalogue,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    accept_breaking: bool = False,
    if_match: Etags = None,
) -> Deployment:
    """Let a version serve this share of the runs that are admitted from now on, or change the share of the canary.

    Raises BadShare (Invalid), NothingServes, CanaryRuns, and what ``promote`` raises.
    """
    check_share(percent)
    found = await _changing(work, deployment_id, if_match)
    if found.version is None:
        raise NothingServes("no version serves, so a canary would be beside nothing", where=found.id)
    version, now = await agents.get_version(work, found.agent_id, named), found.canary
    if now is not None and now.version != version.hash:
        raise CanaryRuns(
            f"revision {now.revision} is the canary already",
            where=found.id,
            then=f"Promote it, or end it with 'agentos deployments end-canary {found.id}'.",
        )
    if now is not None:
        if now.percent != percent:
            await store.set_canary(work, found.id, now.revision, percent)
            await work.publish(CanaryResized(found.id, now.revision, now.version, percent, now.percent, by))
        return await get(work, found.id)
    why = await changes.may_serve(work, found, version, skills, "canary", accept_breaking=accept_breaking)
    number = changes.next_number(await store.history(work, found.id))
    await store.add_revision(work, found, number, version.hash, Status.CANARY, changes.because(why, reason), by, at)
    await store.set_canary(work, found.id, number, percent)
    await work.publish(CanaryStarted(found.id, number, version.hash, percent, by))
    return await get(work, found.id)


def check_share(percent: int) -> None:
    """Return where a canary can serve this share. Raises BadShare (Invalid)."""
    if not 1 <= percent <= MOST_SHARE:
        raise BadShare(
            f"a canary cannot serve {percent} % of the runs",
            where="percent",
            then=f"Give 1 to {MOST_SHARE}; to let it serve all of them, promote it.",
        )


async def end_canary(
    work: UnitOfWork,
    deployment_id: str,
    outcome: Status,
    *,
    by: str,
    reason: str = "",
    if_match: Etags = None,
) -> Deployment:
    """Let the canary serve nothing more; its runs under way stay on it. Raises NoCanary (Conflict)."""
    found = await _changing(work, deployment_id, if_match)
    if found.canary is None:
        raise NoCanary("the deployment has no canary", where=found.id)
    await changes.end_canary(work, found, found.canary, outcome, by, changes.because("canary ended", reason))
    return await get(work, found.id)


async def pause(
    work: UnitOfWork,
    deployment_id: str,
    *,
    by: str,
    at: datetime,  # noqa: ARG001  # every change is told the time; this one keeps none
    if_match: Etags = None,
) -> Deployment:
    """Admit no runs until resumed. Pausing again changes nothing. Raises DeploymentIsRetired (Conflict)."""
    found = await _changing(work, deployment_id, if_match)
    if found.state is State.PAUSED:
        return found
    return await changes.withhold(work, found, State.PAUSED, found.revision, DeploymentPaused(found.id, by))


async def resume(
    work: UnitOfWork,
    deployment_id: str,
    *,
    by: str,
    at: datetime,  # noqa: ARG001  # every change is told the time; this one keeps none
    if_match: Etags = None,
) -> Deployment:
    """Admit runs again. Resuming what is not paused changes nothing. Raises DeploymentIsRetired (Conflict)."""
    found = await _changing(work, deployment_id, if_match)
    if found.state is State.ACTIVE:
        return found
    return await changes.withhold(work, found, State.ACTIVE, found.revision, DeploymentResumed(found.id, by))


async def retire(work: UnitOfWork, deployment_id: str, *, by: str, at: datetime, if_match: Etags = None) -> Deployment:
    """End a deployment for good; its environment is free for a new one. Retiring again changes nothing."""
    found = await _found(work, deployment_id, if_match)
    if found.state is State.RETIRED:
        return found
    await store.end(work, found.id, found.revision, Status.RETIRED, at)
    await store.drop_drafts(work, found.id, Status.RETIRED, below=2**31 - 1)
    if found.canary is not None:
        await changes.end_canary(work, found, found.canary, Status.RETIRED, by, "retired as a canary")
    return await changes.withhold(work, found, State.RETIRED, found.revision, DeploymentRetired(found.id, by))


async def set_tier(
    work: UnitOfWork,
    deployment_id: str,
    tier: Tier,
    *,
    by: str,
    at: datetime,  # noqa: ARG001  # every change is told the time; this one keeps none
    if_match: Etags = None,
) -> Deployment:
    """Put a tier in force, at most the highest of the version that serves (or, before any does, of the last draft).

    Raises TierAboveVersion, DeploymentIsRetired, PreconditionFailed (Conflict).
    """
    found = await _changing(work, deployment_id, if_match)
    hashed = found.version or (await store.history(work, found.id))[0].version
    changes.check_tier(await agents.get_version(work, found.agent_id, hashed), tier)
    if tier is found.tier:
        return found
    await changes.tier_changed(work, found, tier, by)
    await store.change(work, found.id, tier=tier, state=found.state, revision=found.revision)
    return await get(work, found.id)


async def policy_of(work: UnitOfWork, deployment_id: str) -> Saved:
    """The policy in force for a deployment, besides its tier. Raises DeploymentUnknown (NotFound)."""
    found = await get(work, deployment_id)
    return await policies.get(work, epochs.deployment_scope(found.id))


async def policy_history(work: UnitOfWork, deployment_id: str, *, before: int | None, most: int) -> list[Saved]:
    """Every policy that a deployment ever had, newest first. Raises DeploymentUnknown (NotFound)."""
    found = await get(work, deployment_id)
    return await policies.history(work, epochs.deployment_scope(found.id), before=before, most=most)


async def set_policy(
    work: UnitOfWork,
    deployment_id: str,
    policy: DeploymentPolicy,
    *,
    by: str,
    at: datetime,
    reason: str = "",
    confirm: bool = False,
    if_match: Etags = None,
) -> Saved:
    """Put a policy in force for a deployment; ``if_match`` names states of the policy. See policy.service.save."""
    found = await _changing(work, deployment_id, None)
    scope = epochs.deployment_scope(found.id)
    return await policies.save(work, scope, policy, by=by, at=at, reason=reason, confirm=confirm, if_match=if_match)


async def get(work: UnitOfWork, deployment_id: str) -> Deployment:
    """One deployment. Raises MalformedId (Invalid), DeploymentUnknown (NotFound)."""
    found = await store.get(work, ids.checked("dep", deployment_id))
    if found is None:
        raise _unknown(deployment_id)
    return found


async def lock(work: UnitOfWork, deployment_id: str) -> Deployment:
    """One deployment, locked until the unit of work ends. Raises as ``get``."""
    return await _found(work, deployment_id, None)


async def list_deployments(
    work: UnitOfWork,
    *,
    agent_id: str = "",
    environment: str = "",
    state: str = "",
    after: str = "",
    most: int = 200,
) -> list[Deployment]:
    """Deployments by age; an empty filter lets everything through."""
    return await store.listed(work, agent_id, environment, state, after, most)


async def last_served(work: UnitOfWork, agent_id: str, environment: str) -> str | None:
    """The hash of the agent's version that served last in an environment, of one that never did there: anywhere.

    Deployments that were retired count.
    """
    return await store.last_served(work, agent_id, environment)


async def history(work: UnitOfWork, deployment_id: str) -> list[Revision]:
    """Every revision of a deployment, newest first."""
    return await store.history(work, deployment_id)


def check_match(found: Deployment, if_match: Etags) -> None:
    """Return where a deployment is in a state that the caller accepts. Raises PreconditionFailed (Conflict)."""
    if if_match is not None and found.etag not in if_match:
        raise PreconditionFailed(
            "the deployment has changed since you looked",
            where=f"{found.id} has ETag {found.etag}",
            then="Look at it again, then repeat with its present ETag.",
        )


async def _found(work: UnitOfWork, deployment_id: str, if_match: Etags) -> Deployment:
    found = await store.get(work, ids.checked("dep", deployment_id), lock=True)
    if found is None:
        raise _unknown(deployment_id)
    check_match(found, if_match)
    return found


async def _changing(work: UnitOfWork, deployment_id: str, if_match: Etags) -> Deployment:
    found = await _found(work, deployment_id, if_match)
    if found.state is State.RETIRED:
        raise changes.is_retired(found)
    return found


def _unknown(deployment_id: str) -> DeploymentUnknown:
    return DeploymentUnknown(f"no deployment '{deployment_id}'", then="See 'agentos deployments list'.")
