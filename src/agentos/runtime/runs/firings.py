"""From a trigger's firing to a run: admitted when the trigger says so at that moment, and once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import structlog

from agentos.intake.triggers import service as triggers
from agentos.intake.triggers.model import Kind, TriggerChanged, TriggerFired
from agentos.kernel import ids
from agentos.kernel.errors import AgentOSError, Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId, RunId
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.telemetry.catalogue import FIRINGS
from agentos.runtime.runs import admission, service
from agentos.runtime.runs.model import RunEnded, RunEndedAlready
from agentos.runtime.runs.ports import Parts

log = structlog.get_logger(__name__)


class Firings:
    """What happens to runs because of triggers. All of it is safe to repeat."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def consumer(self) -> Consumer:
        """The reliable path: every firing, in order, until it is settled."""
        return Consumer("run_firings", (TriggerFired, TriggerChanged, RunEnded), self._deliver)

    async def hint(self, organization: OrgId, facts: Sequence[Fact]) -> None:
        """The quick path, tried once right after the commit."""
        for fact in facts:
            await self._act(organization, fact)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        for one in deliveries:
            await self._act(one.organization, one.fact)

    async def _act(self, organization: OrgId, fact: Fact) -> None:
        match fact:
            case TriggerFired():
                await self._settle(organization, fact.firing_id)
            case RunEnded() if fact.firing_id:
                async with self._parts.doors.open(organization) as work:
                    waiting = await triggers.ended(work, fact.firing_id)
                if waiting is not None:
                    await self._settle(organization, waiting)
            case TriggerChanged() if fact.cancel_runs:
                await self._cancel(organization, fact)
            case _:
                return

    async def _settle(self, organization: OrgId, firing_id: str) -> None:
        parts = self._parts
        async with parts.doors.open(organization) as work:
            became = await triggers.weigh(work, firing_id)
            if became is None:
                return
            trigger, firing, outcome = became.trigger, became.firing, "held"
            if became.admit:
                asked = admission.Request(
                    trigger.agent_id,
                    trigger.environment,
                    json.loads(firing.input),
                    f"trigger:{trigger.name}",
                    firing.request_id,
                    firing.id,
                    trigger.kind.value,
                    assignment_key=firing.id,  # tried again, it is on the same side of a canary
                )
                run_id = RunId(ids.new("run"))
                try:
                    if trigger.kind is Kind.SCHEDULE:
                        await admission.check_schedules(work, asked)
                    await admission.admit(work, parts, asked, run_id)
                except Unavailable:
                    raise
                except AgentOSError as error:  # said before anything was written: the firing is kept with the reason
                    outcome = "refused"
                    await triggers.refused(work, firing.id, error.code)
                    log.info("firing_refused", trigger=trigger.name, code=error.code, what=error.what)
                else:
                    outcome = "admitted"
                    await triggers.admitted(work, firing.id, run_id)
                    for replaced in became.replaces:
                        with suppress(RunEndedAlready):
                            await service.order(work, replaced, "cancel", by=f"trigger:{trigger.name}")
        parts.meter.count(FIRINGS, kind=trigger.kind.value, outcome=outcome)

    async def _cancel(self, organization: OrgId, fact: TriggerChanged) -> None:
        async with self._parts.doors.open(organization) as work:
            for run_id in await triggers.open_runs(work, fact.trigger_id):
                with suppress(RunEndedAlready):
                    await service.order(work, run_id, "cancel", by=fact.by)
