"""Canaries and the checks of rollbacks, looked at over and over by every worker, on data as it comes in.

A canary is judged by one worker at a time and rolled back for a breach that is shown (see ``breaches``); the checks of
a rollback (see ``validation``) are settled when each has said its last word, or the time is over.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any, Final

import structlog

from agentos.control.agents.ports import SkillCatalogue
from agentos.control.deployments import service as deployments
from agentos.control.deployments.model import Deployment, Status
from agentos.kernel import clock
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.looking import look_for_ever
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import ROLLBACKS
from agentos.kernel.unit_of_work import Doors, UnitOfWork
from agentos.operations.rollouts import service, store
from agentos.operations.rollouts.breaches import breached
from agentos.operations.rollouts.model import (
    CanaryBreached,
    Check,
    Outcome,
    Rollback,
    RollbackValidated,
    overall,
)
from agentos.operations.rollouts.settings import RolloutSettings
from agentos.operations.rollouts.validation import checks

log = structlog.get_logger(__name__)

PLATFORM: Final = "platform:canary"  # who ends a canary by itself
PAGE: Final = 500  # deployments that are asked for at once


async def watch(
    work: UnitOfWork, deployment_id: str, skills: SkillCatalogue, settings: RolloutSettings, *, at: datetime
) -> tuple[str, ...]:
    """Roll back a canary that is shown to breach; why it was. Safe to repeat."""
    deployment = await deployments.get(work, deployment_id)
    last = await store.canaries(work, deployment.id, 1)
    if not last or last[0].outcome != "open":
        return ()
    if not await store.alone(work, deployment.id):  # another worker is at it
        return ()
    breaches = await breached(work, deployment, last[0], settings, at=at)
    if breaches or deployment.canary is None:  # before anything is ended: what is it by now?
        deployment = await deployments.lock(work, deployment.id)
    canary = deployment.canary
    if canary is None or canary.revision != last[0].revision:  # it ended meanwhile, or another one began
        return ()
    if breaches:
        how: dict[str, Any] = {"by": PLATFORM, "at": at, "because": breaches}
        await service.end_canary(work, deployment.id, Status.ROLLED_BACK, skills, **how)
        revision, version = last[0].revision, last[0].version
        await work.publish(CanaryBreached(deployment.id, deployment.agent_id, revision, version, list(breaches)))
    return breaches


async def validate(
    work: UnitOfWork, deployment_id: str, settings: RolloutSettings, *, at: datetime
) -> tuple[Rollback, ...]:
    """Keep what the checks of rollbacks say by now; those that have had the last word. Safe to repeat."""
    waiting = await store.waiting(work, deployment_id)
    deployment = await deployments.get(work, deployment_id)  # only now: a rollback of just now is what serves
    return tuple([one for one in waiting if await _settle(work, deployment, one, settings, at)])


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


async def tick(
    doors: Doors, skills: SkillCatalogue, settings: RolloutSettings, meter: Meter, at: datetime | None = None
) -> int:
    """Look once at everything that is watched; how many deployments that were. Raises DatabaseUnavailable.

    ``at``: the time that it is taken to be.
    """
    seen, after = 0, ("", "")
    while True:
        async with doors.database.connection("agentos_system") as connection:
            rows = await store.watched(connection, after, PAGE)
        for row in rows:
            await _look(doors, skills, settings, meter, OrgId(row.org), row.deployment_id, at or clock.now())
        seen += len(rows)
        if len(rows) < PAGE:
            return seen
        after = (rows[-1].org, rows[-1].deployment_id)


async def _look(
    doors: Doors,
    skills: SkillCatalogue,
    settings: RolloutSettings,
    meter: Meter,
    organization: OrgId,
    deployment_id: str,
    at: datetime,
) -> None:
    """Look at one deployment, its canary and its rollbacks each by itself: what cannot be judged keeps nothing else
    from it. Raises DatabaseUnavailable.
    """

    async def canary(work: UnitOfWork) -> None:
        if breaches := await watch(work, deployment_id, skills, settings, at=at):
            agent_id = (await deployments.get(work, deployment_id)).agent_id
            log.warning("canary_rolled_back", deployment=deployment_id, because=list(breaches))
            meter.count(ROLLBACKS, org=organization, agent_id=agent_id, deployment=deployment_id, cause="canary")

    async def rollbacks(work: UnitOfWork) -> None:
        await validate(work, deployment_id, settings, at=at)

    for part in (canary, rollbacks):
        try:
            async with doors.open(organization) as work:
                await part(work)
        except Unavailable:
            raise
        except Exception as error:  # the next look tries it again
            log.exception("rollout_not_watched", deployment=deployment_id, error=type(error).__name__)


async def watch_for_ever(
    doors: Doors, skills: SkillCatalogue, settings: RolloutSettings, meter: Meter, stop: asyncio.Event
) -> None:
    """Look until ``stop``; a database that is away is waited for."""

    async def look() -> None:
        await tick(doors, skills, settings, meter)

    await look_for_ever(look, stop, every_seconds=settings.look_seconds, waits="rollouts_wait")
