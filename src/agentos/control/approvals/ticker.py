"""The clock of approvals: reminds, escalates and ends what nobody answers, whichever processes look.

Every worker looks. What is due is done in one transaction that locks the approval, so that it is done once, and a clock
that was away makes good what passed meanwhile: an approval never outlasts the time that it was given.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

import structlog

from agentos.control.approvals import service, store
from agentos.control.approvals.model import ApprovalEscalated, ApprovalExpired, ApprovalReminded, ApprovalSlaMissed
from agentos.kernel.errors import Unavailable
from agentos.kernel.facts import Fact
from agentos.kernel.ids import OrgId
from agentos.kernel.looking import look_for_ever
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import APPROVAL_CLOCK
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

LONGEST_LOOK_SECONDS: Final = 1.0  # a new approval is due after minutes; a second late is nothing to a person
PAGE: Final = 200
_DID: Final[dict[type[Fact], str]] = {
    ApprovalReminded: "reminded",
    ApprovalSlaMissed: "sla_missed",
    ApprovalEscalated: "escalated",
    ApprovalExpired: "expired",
}


async def tick(doors: Doors, meter: Meter, at: datetime | None = None, *, stop: asyncio.Event | None = None) -> float:
    """Do what is due; the seconds until something is again, at most one. Raises DatabaseUnavailable.

    ``at``: the time that it is taken to be; None for the database's. ``stop`` leaves what is due to another process.
    """
    while True:
        async with doors.database.connection("agentos_system") as connection:
            rows = await store.due(connection, at, PAGE)
        due = [row for row in rows if row.seconds <= 0]
        moved = 0
        for row in due:
            if stop is not None and stop.is_set():
                return 0.0
            try:
                async with doors.open(OrgId(row.org)) as work:
                    moved += await service.advance(work, row.approval_id, at=row.at)
            except Unavailable:
                raise
            except Exception as error:  # one that cannot go on keeps no other from it; the next look tries it again
                log.exception("approval_clock_failed", approval=row.approval_id, error=type(error).__name__)
                continue
            for fact in work.facts:
                meter.count(APPROVAL_CLOCK, 1, org=row.org, did=_DID[type(fact)])
        if not moved:  # nothing is due, or other clocks have it in their hands
            return min([LONGEST_LOOK_SECONDS, *(max(0.01, float(row.seconds)) for row in rows if row not in due)])


async def tick_for_ever(doors: Doors, meter: Meter, stop: asyncio.Event) -> None:
    """Tick until ``stop``; a database that is away is waited for."""
    await look_for_ever(
        lambda: tick(doors, meter, stop=stop), stop, every_seconds=LONGEST_LOOK_SECONDS, waits="approval_clock_waits"
    )
