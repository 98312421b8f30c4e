"""What serves: the version, and the canary's share of it, that a run which is admitted now is pinned to."""

from __future__ import annotations

from agentos.control.agents import service as agents
from agentos.control.deployments import changes, store
from agentos.control.deployments.model import (
    PRODUCTION,
    Deployment,
    DeploymentIsPaused,
    DeploymentUnknown,
    NothingServes,
    Serving,
    State,
)
from agentos.kernel import ids
from agentos.kernel.unit_of_work import UnitOfWork


async def of_agent(work: UnitOfWork, agent_id: str, environment: str = PRODUCTION, *, key: str = "") -> Serving:
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
        raise changes.is_retired(over)
    await agents.get_agent(work, agent_id)
    raise DeploymentUnknown(
        f"agent '{agent_id}' has no deployment in '{environment}'", then="See 'agentos deployments list'."
    )


async def of_all(work: UnitOfWork, *, most: int) -> list[Serving]:
    """What each active deployment serves, by age."""
    return await store.serving_all(work, most)


async def _taking(work: UnitOfWork, found: Serving, key: str) -> Serving:
    canary = found.deployment.canary
    if canary is None or not key or not canary.takes(found.deployment.id, key):
        return found
    version = await agents.get_version(work, found.deployment.agent_id, canary.version)
    return Serving(found.deployment, canary.revision, version)


def _admitting(deployment: Deployment, found: Serving | None) -> Serving:
    if deployment.state is State.RETIRED:
        raise changes.is_retired(deployment)
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
