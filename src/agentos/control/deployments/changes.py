"""Each change of a deployment that is locked, as rows, epochs and facts; and what a version must be to serve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from agentos.control.agents import service as agents
from agentos.control.agents.model import Version
from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import store
from agentos.control.deployments.model import (
    Canary,
    CanaryEnded,
    Deployment,
    DeploymentCreated,
    DeploymentIsRetired,
    NotPromotable,
    Revision,
    RevisionDrafted,
    ServesAlready,
    SkillContractBroken,
    State,
    Status,
    TierAboveVersion,
    TierChanged,
    VersionPromoted,
    VersionRolledBack,
)
from agentos.control.policy.model import Tier
from agentos.kernel import epochs, ids
from agentos.kernel.errors import Conflict, NotFound
from agentos.kernel.facts import Fact
from agentos.kernel.ids import DeploymentId
from agentos.kernel.unit_of_work import UnitOfWork

MOST_SAID: Final = 2000  # characters of what is broken, as of a reason that a person gives


async def add(
    work: UnitOfWork, agent_id: str, environment: str, tier: Tier, *, by: str, at: datetime
) -> Deployment | None:
    """Give an agent a place in an environment, where nothing serves yet; None where it has one."""
    new = DeploymentId(ids.new("dep"))
    if not await store.add(work, new, agent_id, environment, tier, at):
        return None
    await epochs.ensure(work, [epochs.deployment_scope(new)])
    await work.publish(DeploymentCreated(new, agent_id, environment, by, int(tier)))
    return await _now(work, new)


async def draft(
    work: UnitOfWork,
    found: Deployment,
    past: Sequence[Revision],
    version: Version,
    reason: str,
    *,
    by: str,
    at: datetime,
) -> Deployment:
    """Put a version forward to serve next."""
    number = next_number(past)
    await store.add_revision(work, found, number, version.hash, Status.DRAFT, reason, by, at)
    await store.change(work, found.id, tier=found.tier, state=found.state, revision=found.revision)
    await work.publish(RevisionDrafted(found.id, number, version.hash, by))
    return await _now(work, found.id)


async def serve(
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
        await end_canary(work, found, found.canary, outcome, by, "another version serves now")
    number = draft.number if draft else next_number(past)
    if found.revision:
        await store.end(work, found.id, found.revision, ends, at)
    if draft:
        await store.activate(work, found.id, number, reason, at)
    else:
        await store.add_revision(work, found, number, version.hash, Status.ACTIVE, reason, by, at)
    tier = min(found.tier, version.definition.tier)
    if tier is not found.tier:
        await tier_changed(work, found, tier, by)
    await store.change(work, found.id, tier=tier, state=found.state, revision=number)
    if ends is Status.ROLLED_BACK:
        await work.publish(VersionRolledBack(found.id, number, version.hash, found.version or "", by))
    else:
        await store.drop_drafts(work, found.id, Status.SUPERSEDED, below=number)
        await work.publish(VersionPromoted(found.id, number, version.hash, found.version or "", by))
    return await _now(work, found.id)


async def end_canary(
    work: UnitOfWork, found: Deployment, canary: Canary, outcome: Status, by: str, reason: str
) -> None:
    """Let the canary serve nothing more."""
    if outcome is not Status.ACTIVE:
        await store.end_canary(work, found.id, canary.revision, outcome, reason[:MOST_SAID])
    await store.set_canary(work, found.id, None, None)
    await work.publish(CanaryEnded(found.id, canary.revision, canary.version, outcome.value, by))


async def withhold(work: UnitOfWork, found: Deployment, state: State, revision: int, fact: Fact) -> Deployment:
    """Put a state in force, so that nothing acts any more on a decision made before."""
    await epochs.bump(work, epochs.deployment_scope(found.id))
    await store.change(work, found.id, tier=found.tier, state=state, revision=revision)
    await work.publish(fact)
    return await _now(work, found.id)


async def tier_changed(work: UnitOfWork, found: Deployment, tier: Tier, by: str) -> None:
    """Let nothing act any more on a decision that was made under another tier."""
    await epochs.bump(work, epochs.deployment_scope(found.id))
    await work.publish(TierChanged(found.id, int(tier), int(found.tier), by))


def next_number(past: Sequence[Revision]) -> int:
    """The number of the revision that is added next."""
    return max((one.number for one in past), default=0) + 1


def because(what: str, reason: str) -> str:
    """What the history says of a change, and why it was made."""
    return f"{what}: {reason}" if reason else what


def check_tier(version: Version, tier: Tier | None) -> None:
    """Return where a version allows itself the tier. Raises TierAboveVersion (Conflict)."""
    if tier is not None and tier > version.definition.tier:
        raise TierAboveVersion(
            f"tier {tier.name} is above {version.definition.tier.name}, the highest of version {version.number}",
            then="Choose a lower tier, or apply a version that allows more.",
        )


async def check_skills(version: Version, skills: SkillCatalogue) -> None:
    """Return where a version's skills can be called as they were pinned. Raises NotPromotable (Conflict)."""
    try:
        await agents.check_skills(version, skills)
    except (NotFound, Conflict) as error:
        raise NotPromotable(
            f"version {version.number} may not serve: {error.what}", where=error.where, then=error.then
        ) from error


def is_retired(deployment: Deployment) -> DeploymentIsRetired:
    """The refusal of what is retired."""
    return DeploymentIsRetired(
        f"'{deployment.agent_id}' is retired in '{deployment.environment}'",
        where=deployment.id,
        then="Create a new deployment with 'agentos deployments create'.",
    )


async def may_serve(
    work: UnitOfWork, found: Deployment, version: Version, skills: SkillCatalogue, what: str, *, accept_breaking: bool
) -> str:
    """What the history says of a version that may serve next, also though contracts of its skills break."""
    if found.version == version.hash:
        raise ServesAlready(f"version {version.number} of '{found.agent_id}' serves already", where=found.id)
    await check_skills(version, skills)
    broken = await _broken(work, found, version, skills)
    if broken and not accept_breaking:
        raise SkillContractBroken(
            f"version {version.number} may not serve: {'; '.join(broken)}"[:MOST_SAID],
            where=found.id,
            then="Mend the agent for the new contract, then promote with --accept-breaking.",
        )
    return f"{what}, accepting broken contracts ({'; '.join(broken)})"[:MOST_SAID] if broken else what


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


async def _now(work: UnitOfWork, deployment_id: str) -> Deployment:
    found = await store.get(work, deployment_id)
    assert found is not None, "it is locked"
    return found
