"""What a worker does with a bus's messages: fire the trigger that matches best, once for each event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import structlog

from agentos.adapters.events import Take
from agentos.intake.triggers import service
from agentos.kernel import ids
from agentos.kernel.clock import now
from agentos.kernel.errors import Invalid
from agentos.kernel.ids import OrgId
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import EVENTS_TAKEN
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

STRUCTURED: Final = "application/cloudevents+json"  # what a message without a word about its form is taken for


def taker(doors: Doors, organization: OrgId, meter: Meter) -> Take:
    """Takes messages for this organization. What is no event, or makes no input, is refused and never comes again."""

    async def take(headers: Mapping[str, str], body: bytes) -> None:
        said = {name.lower(): value for name, value in headers.items()}
        if "ce-type" not in said:
            said["content-type"] = said.get("content-type") or STRUCTURED
        request_id = ids.new("req")
        try:
            event = service.read_event(said, body)
            async with doors.open(organization) as work:
                fired = await service.fire_event(work, event, at=now(), request_id=request_id)
        except Invalid as error:  # it would be so whenever it came again, and those behind it wait
            log.warning("event_refused", what=error.what, request_id=request_id)
            meter.count(EVENTS_TAKEN, outcome="refused")
            return
        outcome = "unmatched" if fired is None else "fired" if fired[2] else "again"
        meter.count(EVENTS_TAKEN, outcome=outcome)

    return take
