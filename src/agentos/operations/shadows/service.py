"""Begin, end and read shadows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from agentos.control.agents import service as agents
from agentos.control.deployments import service as deployments
from agentos.kernel.unit_of_work import UnitOfWork
from agentos.operations.shadows import store
from agentos.operations.shadows.model import Shadow, ShadowEnded, ShadowStarted, ShadowUnknown, Shown


async def start(
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


async def end(work: UnitOfWork, deployment_id: str, *, by: str, at: datetime) -> Shadow:
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
