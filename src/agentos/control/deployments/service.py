"""Deploy versions: apply, create, promote, try as a canary, pause, resume, retire, roll back; and say what serves.

Every change locks its deployment, so changes of one deployment happen one after the other. Promotions and roll-backs
touch no run: runs are pinned to the version that they were admitted with. Whatever withholds action or changes what may
be done bumps the deployment's epoch, so nothing acts any more on a decision made before.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Applied, Manifest, Version
from agentos.control.agents.ports import ModelCatalogue, SkillCatalogue
from agentos.control.deployments import store
from agentos.control.deployments.model import (
    PRODUCTION,
    BadShare,
    Canary,
    CanaryEnded,
    CanaryResized,
    CanaryRuns,
    CanaryStarted,
    Deployment,
    DeploymentCreated,
    DeploymentExists,
    DeploymentIsPaused,
    DeploymentIsRetired,
    DeploymentPaused,
    DeploymentResumed,
    DeploymentRetired,
    DeploymentUnknown,
    Ensured,
    NeverServed,
    NoCanary,
    NoLastKnownGood,
    NothingServes,
    NotPromotable,
    PreconditionFailed,
    Revision,
    RevisionDrafted,
    ServedBefore,
    ServesAlready,
    Serving,
    SkillContractBroken,
    State,
    Status,
    TierAboveVersion,
    TierChanged,
    VersionPromoted,
    VersionRolledBack,
    last_known_good,
    served,
)
from agentos.control.policy import service as policies
from agentos.control.policy.model import DeploymentPolicy, Saved, Tier
from agentos.kernel import epochs, ids
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import DeploymentId
from agentos.kernel.unit_of_work import UnitOfWork

Etags = Collection[int] | None  # those that the caller accepts; None: any

MOST_SHARE: Final = 99  # percent of the runs that a canary may serve: one that serves all is promoted
MOST_SAID: Final = 2000  # characters of what is broken, as of a reason that a person gives


@dataclass(frozen=True, slots=True)
class Deployed:
    """What applying one manifest came to: its version, and what became of it in the environment."""

    applied: Applied
    ensured: Ensured


async def apply(
    work: UnitOfWork,
    manifests: Sequence[Manifest],
    skills: SkillCatalogue,
    models: ModelCatalogue,
    *,
    by: str,
    at: datetime,
    environment: str = PRODUCTION,
) -> list[Deployed]:
    """Make a version of each manifest, all or none, and put each forward in the environment: see ``ensure``."""
    ids.checked_name(environment, what="environment")
    done = await agents.apply(work, manifests, skills, models, by=by, at=at)
    ensured = {
        one.version.agent_id: await ensure(work, one.version.agent_id, environment, one.version, by=by, at=at)
        for one in sorted(done, key=lambda one: one.version.agent_id)
    }
    return [Deployed(one, ensured[one.version.agent_id]) for one in done]


async def ensure(
    work: UnitOfWork, agent_id: str, environment: str, version: Version, *, by: str, at: datetime
) -> Ensured:
    """Put a version forward. Doing it again changes nothing.

    An agent's first version in an environment serves at once; any later one becomes a draft, which is promoted by
    order, and so does the first one in production of an agent that has served elsewhere. A retired deployment is not
    brought back: ``revision`` is None then.
    """
    ids.checked_name(environment, what="environment")
    found = await store.live(work, agent_id, environment)
    if found is None:
        over = await store.retired(work, agent_id, environment)
        if over is not None:
            return Ensured(over, None, created=False)
        before = await _elsewhere(work, agent_id, environment)
        made = await _add(work, agent_id, environment, version.definition.tier, by=by, at=at)
        if made is not None and before:
            made = await _draft(work, made, [], version, "applied", by=by, at=at)
            return Ensured(made, (await store.history(work, made.id))[0], created=True)
        if made is not None:
            made = await _serve(work, made, [], version, Status.SUPERSEDED, "first version", by=by, at=at)
            return Ensured(made, (await store.history(work, made.id))[0], created=True)
        found = await store.live(work, agent_id, environment)  # somebody else made it meanwhile
        assert found is not None
    past = await store.history(work, found.id)
    for one in past:
        if one.version == version.hash and one.status in (Status.ACTIVE, Status.CANARY, Status.DRAFT):
            return Ensured(found, one, created=False)
    found = await _draft(work, found, past, version, "applied", by=by, at=at)
    return Ensured(found, (await store.history(work, found.id))[0], created=True)


async def create(
    work: UnitOfWork,
    agent_id: str,
    environment: str,
    named: str | None,
    skills: SkillCatalogue,
    *,
    tier: Tier | None = None,
    serve: bool = False,
    by: str,
    at: datetime,
) -> Deployment:
    """Give an agent a place in an environment, with a version (the latest when not named) as draft, or serving at once.

    Only the first version in an environment can serve at once: whatever comes after one that served is promoted, and so
    is what comes to production after it served elsewhere. Raises DeploymentExists, ServedBefore, TierAboveVersion,
    NotPromotable (Conflict), AgentUnknown, VersionUnknown (NotFound).
    """
    ids.checked_name(environment, what="environment")
    version = await agents.get_version(work, agent_id, named or (await agents.get_agent(work, agent_id)).latest)
    _check_tier(version, tier)
    await _check_skills(version, skills)
    if serve and await store.retired(work, version.agent_id, environment) is not None:
        raise ServedBefore(
            f"agent '{agent_id}' had a deployment in '{environment}' before",
            then="Create it without --serve, then promote the version.",
        )
    if serve and await _elsewhere(work, version.agent_id, environment):
        raise ServedBefore(
            f"agent '{agent_id}' has served elsewhere, so what serves in '{environment}' is promoted",
            then="Create it without --serve, then promote the version.",
        )
    made = await _add(
        work, version.agent_id, environment, version.definition.tier if tier is None else tier, by=by, at=at
    )
    if made is None:
        raise DeploymentExists(
            f"agent '{agent_id}' has a deployment in '{environment}'",
            then="Promote the version there, or choose another environment.",
        )
    if serve:
        return await _serve(work, made, [], version, Status.SUPERSEDED, "created serving", by=by, at=at)
    return await _draft(work, made, [], version, "created", by=by, at=at)


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
    why = await _may_serve(work, found, version, skills, "promoted", accept_breaking=accept_breaking)
    past = await store.history(work, found.id)
    return await _serve(work, found, past, version, Status.SUPERSEDED, _because(why, reason), by=by, at=at)


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
    await _check_skills(version, skills)
    why = _because(f"rollback to revision {target.number}", reason)
    return await _serve(work, found, past, version, Status.ROLLED_BACK, why, by=by, at=at)


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
    why = await _may_serve(work, found, version, skills, "canary", accept_breaking=accept_breaking)
    number = _next(await store.history(work, found.id))
    await store.add_revision(work, found, number, version.hash, Status.CANARY, _because(why, reason), by, at)
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
    await _end_canary(work, found, found.canary, outcome, by, _because("canary ended", reason))
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
    return await _withhold(work, found, State.PAUSED, found.revision, DeploymentPaused(found.id, by))


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
    return await _withhold(work, found, State.ACTIVE, found.revision, DeploymentResumed(found.id, by))


async def retire(work: UnitOfWork, deployment_id: str, *, by: str, at: datetime, if_match: Etags = None) -> Deployment:
    """End a deployment for good; its environment is free for a new one. Retiring again changes nothing."""
    found = await _found(work, deployment_id, if_match)
    if found.state is State.RETIRED:
        return found
    await store.end(work, found.id, found.revision, Status.RETIRED, at)
    await store.drop_drafts(work, found.id, Status.RETIRED, below=2**31 - 1)
    if found.canary is not None:
        await _end_canary(work, found, found.canary, Status.RETIRED, by, "retired as a canary")
    return await _withhold(work, found, State.RETIRED, found.revision, DeploymentRetired(found.id, by))


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
    _check_tier(await agents.get_version(work, found.agent_id, hashed), tier)
    if tier is found.tier:
        return found
    await _tier_changed(work, found, tier, by)
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


async def serving(work: UnitOfWork, agent_id: str, environment: str = PRODUCTION, *, key: str = "") -> Serving:
    """What a run of this agent that is admitted now is pinned to; of a ``key`` that the canary takes, the canary.

    Raises AgentUnknown or DeploymentUnknown (NotFound); DeploymentIsPaused, DeploymentIsRetired or NothingServes
    (Conflict).
    """
    ids.checked_name(agent_id, what="agent")
    ids.checked_name(environment, what="environment")
    found = await store.serving_live(work, agent_id, environment)
    if found is not None:
        return await _taking(work, _admitting(*found), key)
    over = await store.retired(work, agent_id, environment)
    if over is not None:
        raise _retired(over)
    await agents.get_agent(work, agent_id)
    raise DeploymentUnknown(
        f"agent '{agent_id}' has no deployment in '{environment}'", then="See 'agentos deployments list'."
    )


async def serving_of(work: UnitOfWork, deployment_id: str) -> Serving:
    """The same for a deployment that is named by its id."""
    found = await store.serving_of(work, ids.checked("dep", deployment_id))
    if found is None:
        raise _unknown(deployment_id)
    return _admitting(*found)


async def serving_all(work: UnitOfWork, *, most: int) -> list[Serving]:
    """What each active deployment serves, by age."""
    return await store.serving_all(work, most)


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


async def _elsewhere(work: UnitOfWork, agent_id: str, environment: str) -> bool:
    """Whether an agent comes to production from elsewhere, where gates may have something to say of it."""
    return environment == PRODUCTION and await store.last_served(work, agent_id, environment) is not None


async def _taking(work: UnitOfWork, found: Serving, key: str) -> Serving:
    canary = found.deployment.canary
    if canary is None or not key or not canary.takes(found.deployment.id, key):
        return found
    version = await agents.get_version(work, found.deployment.agent_id, canary.version)
    return Serving(found.deployment, canary.revision, version)


async def _may_serve(
    work: UnitOfWork, found: Deployment, version: Version, skills: SkillCatalogue, what: str, *, accept_breaking: bool
) -> str:
    """What the history says of a version that may serve next, also though contracts of its skills break."""
    if found.version == version.hash:
        raise ServesAlready(f"version {version.number} of '{found.agent_id}' serves already", where=found.id)
    await _check_skills(version, skills)
    broken = await _broken(work, found, version, skills)
    if broken and not accept_breaking:
        raise SkillContractBroken(
            f"version {version.number} may not serve: {'; '.join(broken)}"[:MOST_SAID],
            where=found.id,
            then="Mend the agent for the new contract, then promote with --accept-breaking.",
        )
    return f"{what}, accepting broken contracts ({'; '.join(broken)})"[:MOST_SAID] if broken else what


async def _end_canary(
    work: UnitOfWork, found: Deployment, canary: Canary, outcome: Status, by: str, reason: str
) -> None:
    if outcome is not Status.ACTIVE:
        await store.end_canary(work, found.id, canary.revision, outcome, reason[:MOST_SAID])
    await store.set_canary(work, found.id, None, None)
    await work.publish(CanaryEnded(found.id, canary.revision, canary.version, outcome.value, by))


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
        raise _retired(found)
    return found


async def _add(
    work: UnitOfWork, agent_id: str, environment: str, tier: Tier, *, by: str, at: datetime
) -> Deployment | None:
    new = DeploymentId(ids.new("dep"))
    if not await store.add(work, new, agent_id, environment, tier, at):
        return None
    await epochs.ensure(work, [epochs.deployment_scope(new)])
    await work.publish(DeploymentCreated(new, agent_id, environment, by, int(tier)))
    return await get(work, new)


async def _draft(
    work: UnitOfWork,
    found: Deployment,
    past: Sequence[Revision],
    version: Version,
    reason: str,
    *,
    by: str,
    at: datetime,
) -> Deployment:
    number = _next(past)
    await store.add_revision(work, found, number, version.hash, Status.DRAFT, reason, by, at)
    await store.change(work, found.id, tier=found.tier, state=found.state, revision=found.revision)
    await work.publish(RevisionDrafted(found.id, number, version.hash, by))
    return await get(work, found.id)


async def _serve(
    work: UnitOfWork,
    found: Deployment,
    past: Sequence[Revision],
    version: Version,
    ends: Status,
    reason: str,
    *,
    by: str,
    at: datetime,
) -> Deployment:
    """Let a version serve under a revision of a higher number than any that served, the present one ending as ``ends``.

    Only a promotion uses up the version's draft, or makes its canary the one that serves; a roll-back leaves drafts to
    be promoted later. A canary that stood beside what serves no longer ends.
    """
    waiting = [one for one in past if one.version == version.hash and one.number > found.revision]
    drafts = [one for one in waiting if ends is Status.SUPERSEDED and one.status in (Status.CANARY, Status.DRAFT)]
    draft = min(drafts, key=lambda one: one.status is not Status.CANARY, default=None)
    if found.canary is not None:
        promoted = draft is not None and draft.number == found.canary.revision
        outcome = Status.ACTIVE if promoted else Status.SUPERSEDED
        await _end_canary(work, found, found.canary, outcome, by, "another version serves now")
    number = draft.number if draft else _next(past)
    if found.revision:
        await store.end(work, found.id, found.revision, ends, at)
    if draft:
        await store.activate(work, found.id, number, reason, at)
    else:
        await store.add_revision(work, found, number, version.hash, Status.ACTIVE, reason, by, at)
    tier = min(found.tier, version.definition.tier)
    if tier is not found.tier:
        await _tier_changed(work, found, tier, by)
    await store.change(work, found.id, tier=tier, state=found.state, revision=number)
    if ends is Status.ROLLED_BACK:
        await work.publish(VersionRolledBack(found.id, number, version.hash, found.version or "", by))
    else:
        await store.drop_drafts(work, found.id, Status.SUPERSEDED, below=number)
        await work.publish(VersionPromoted(found.id, number, version.hash, found.version or "", by))
    return await get(work, found.id)


async def _withhold(work: UnitOfWork, found: Deployment, state: State, revision: int, fact: Fact) -> Deployment:
    await epochs.bump(work, epochs.deployment_scope(found.id))
    await store.change(work, found.id, tier=found.tier, state=state, revision=revision)
    await work.publish(fact)
    return await get(work, found.id)


async def _tier_changed(work: UnitOfWork, found: Deployment, tier: Tier, by: str) -> None:
    await epochs.bump(work, epochs.deployment_scope(found.id))
    await work.publish(TierChanged(found.id, int(tier), int(found.tier), by))


def _next(past: Sequence[Revision]) -> int:
    return max((one.number for one in past), default=0) + 1


def _because(what: str, reason: str) -> str:
    return f"{what}: {reason}" if reason else what


def _check_tier(version: Version, tier: Tier | None) -> None:
    if tier is not None and tier > version.definition.tier:
        raise TierAboveVersion(
            f"tier {tier.name} is above {version.definition.tier.name}, the highest of version {version.number}",
            then="Choose a lower tier, or apply a version that allows more.",
        )


async def _broken(work: UnitOfWork, found: Deployment, version: Version, skills: SkillCatalogue) -> list[str]:
    """What of a version's skills breaks who relied on those of the version that serves."""
    if found.version is None:
        return []
    serving = await agents.get_version(work, found.agent_id, found.version)
    before = {one.name: one.version for one in serving.definition.skills}
    return [
        f"{now.name} {before[now.name]} → {now.version}: {why}"
        for now in version.definition.skills
        if before.get(now.name, now.version) != now.version
        for why in await skills.breaking(work, now.name, before[now.name], now.version)
    ]


async def _check_skills(version: Version, skills: SkillCatalogue) -> None:
    try:
        await agents.check_skills(version, skills)
    except (NotFound, Conflict) as error:
        raise NotPromotable(
            f"version {version.number} may not serve: {error.what}", where=error.where, then=error.then
        ) from error


def _admitting(deployment: Deployment, found: Serving | None) -> Serving:
    if deployment.state is State.RETIRED:
        raise _retired(deployment)
    if deployment.state is State.PAUSED:
        raise DeploymentIsPaused(
            f"'{deployment.agent_id}' is paused in '{deployment.environment}'",
            where=deployment.id,
            then=f"Resume it with 'agentos deployments resume {deployment.id}'.",
        )
    if found is None:
        raise NothingServes(
            f"no version of '{deployment.agent_id}' serves in '{deployment.environment}' yet",
            where=deployment.id,
            then=f"Promote one with 'agentos deployments promote {deployment.id} VERSION'.",
        )
    return found


def _retired(deployment: Deployment) -> DeploymentIsRetired:
    return DeploymentIsRetired(
        f"'{deployment.agent_id}' is retired in '{deployment.environment}'",
        where=deployment.id,
        then="Create a new deployment with 'agentos deployments create'.",
    )


def _unknown(deployment_id: str) -> DeploymentUnknown:
    return DeploymentUnknown(f"no deployment '{deployment_id}'", then="See 'agentos deployments list'.")
