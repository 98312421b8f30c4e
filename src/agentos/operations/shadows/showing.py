"""Shadow runs: what runs that are over would have come to under another version, a share of them, as they end.

Nothing that a shadow does leaves the process: reads and effects are answered by what came of the very same call in the
run, drafts and approvals likewise; where there was no such call, the shadow is left there and its outcome is unknown.
Models are the stub, unless the shadow was begun live: then they are asked, and count in the organization's budgets.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from agentos.control.deployments.model import place
from agentos.evidence.replay import what_if
from agentos.evidence.replay.what_if import Instead, Result
from agentos.kernel.clock import now
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.outbox import LEISURE_SECONDS, Consumer, Delivery
from agentos.kernel.retention import Retention
from agentos.kernel.telemetry.catalogue import SHADOW_RUNS
from agentos.operations.shadows import store
from agentos.operations.shadows.model import Shadow
from agentos.runtime.runs import service as runs
from agentos.runtime.runs.model import RunEnded, RunStatus
from agentos.runtime.runs.ports import Parts

NAME: Final = "shadows"  # of the consumer; the migration has set its cursor
KEPT: Final = Retention("shadow_runs_forget", timedelta(days=30))  # longer than a version is a shadow
TOGETHER: Final = 50  # runs that are looked up at once: few have a shadow


class Shadows:
    """Shows shadows what runs were given. Safe to repeat: what a run would have come to is kept once."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def consumer(self) -> Consumer:
        """Every run that ended, in order."""
        return Consumer(NAME, (RunEnded,), self._deliver, together=TOGETHER, pause=LEISURE_SECONDS)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        organization = deliveries[0].organization
        ended = [one.fact for one in deliveries if isinstance(one.fact, RunEnded)]
        async with self._parts.doors.open(organization) as work:
            shown = await store.shadowed(work, {fact.deployment_id for fact in ended})
        for fact in ended:
            if fact.deployment_id in shown and fact.status != RunStatus.CANCELLED:
                await self.show(organization, fact)

    async def show(self, organization: OrgId, fact: RunEnded) -> None:
        """Show the shadow of a run's deployment the run, if it is one of its share."""
        doors = self._parts.doors
        async with doors.open(organization) as work:
            shadow = await store.shadow(work, fact.deployment_id)
            if shadow is None or not _takes(shadow, fact):
                return
            if await store.is_shown(work, fact.deployment_id, shadow.version, fact.run_id):
                return
            if (await runs.get(work, fact.run_id)).draft_id is not None:  # a person's call, not the version's
                return
        result, why = await self._came_to(organization, shadow, fact.run_id)
        async with doors.open(organization) as work:
            await store.keep(work, _kept(shadow, fact, result, why))
        outcome = _outcome(result)
        self._parts.meter.count(
            SHADOW_RUNS, org=organization, agent_id=fact.agent_id, deployment=fact.deployment_id, outcome=outcome
        )

    async def _came_to(self, organization: OrgId, shadow: Shadow, run_id: str) -> tuple[Result | None, str]:
        """What a run would have come to, or the code of the error for which nobody can tell."""
        instead = Instead(version=shadow.version)
        try:
            async with self._parts.doors.open(organization) as work:
                prepared = await what_if.prepare(work, self._parts, [run_id], instead, live=shadow.live, at=now())
        except Unavailable:  # the database is away: the fact comes again
            raise
        except AgentOSError as error:  # a skill that is not loaded, a version that is gone
            return None, error.code
        try:
            (result,) = (await what_if.compare(prepared)).results
        except AgentOSError as error:  # also a live model that is away: others are not kept waiting for it
            return None, error.code
        return result, ""


def _takes(shadow: Shadow, fact: RunEnded) -> bool:
    if shadow.ended_at is not None or shadow.version == fact.version:
        return False
    return place(f"shadow {fact.deployment_id} {shadow.version}", fact.run_id) < shadow.percent


def _outcome(result: Result | None) -> str:
    changed = None if result is None else result.outcome_changed
    return {None: "unknown", True: "changed", False: "same"}[changed]


def _kept(shadow: Shadow, fact: RunEnded, result: Result | None, why: str) -> dict[str, object]:
    known = result is not None and result.whole
    return {
        "deployment_id": shadow.deployment_id,
        "version": shadow.version,
        "run_id": fact.run_id,
        "recorded": fact.status,
        "found": result.found.status if result is not None and known else "unknown",
        "code": result.found.code if result is not None and known else "",
        "changed": None if result is None else result.outcome_changed,
        "micros_more": None if result is None else result.micros_more,
        "left_because": (result.why if result is not None else why)[:200],
        "at": now(),
    }
