"""Versions put forward: manifests applied, and places in environments made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from agentos.control.agents import service as agents
from agentos.control.agents.model import Applied, Manifest, Version
from agentos.control.agents.ports import ModelCatalogue, SkillCatalogue
from agentos.control.deployments import changes, store
from agentos.control.deployments.model import (
    PRODUCTION,
    Deployment,
    DeploymentExists,
    Ensured,
    ServedBefore,
    Status,
)
from agentos.control.policy.model import Tier
from agentos.kernel import ids
from agentos.kernel.unit_of_work import UnitOfWork


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
        made = await changes.add(work, agent_id, environment, version.definition.tier, by=by, at=at)
        if made is not None and before:
            made = await changes.draft(work, made, [], version, "applied", by=by, at=at)
            return Ensured(made, (await store.history(work, made.id))[0], created=True)
        if made is not None:
            made = await changes.serve(work, made, [], version, Status.SUPERSEDED, "first version", by=by, at=at)
            return Ensured(made, (await store.history(work, made.id))[0], created=True)
        found = await store.live(work, agent_id, environment)  # somebody else made it meanwhile
        assert found is not None
    past = await store.history(work, found.id)
    for one in past:
        if one.version == version.hash and one.status in (Status.ACTIVE, Status.CANARY, Status.DRAFT):
            return Ensured(found, one, created=False)
    found = await changes.draft(work, found, past, version, "applied", by=by, at=at)
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
    changes.check_tier(version, tier)
    await changes.check_skills(version, skills)
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
    made = await changes.add(
        work, version.agent_id, environment, version.definition.tier if tier is None else tier, by=by, at=at
    )
    if made is None:
        raise DeploymentExists(
            f"agent '{agent_id}' has a deployment in '{environment}'",
            then="Promote the version there, or choose another environment.",
        )
    if serve:
        return await changes.serve(work, made, [], version, Status.SUPERSEDED, "created serving", by=by, at=at)
    return await changes.draft(work, made, [], version, "created", by=by, at=at)


async def _elsewhere(work: UnitOfWork, agent_id: str, environment: str) -> bool:
    """Whether an agent comes to production from elsewhere, where gates may have something to say of it."""
    return environment == PRODUCTION and await store.last_served(work, agent_id, environment) is not None
