"""The clock of schedules: fires what is due, whichever processes look.

Every worker looks. A moment fires in one transaction that locks its trigger, so that it fires once, and a process that
dies between looking and firing costs nothing but a second.
"""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Final

import structlog

from agentos.intake.triggers import service, store
from agentos.kernel.errors import Unavailable
from agentos.kernel.ids import OrgId
from agentos.kernel.looking import look_for_ever
from agentos.kernel.telemetry import Meter
from agentos.kernel.telemetry.catalogue import SCHEDULE_LATENESS
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)

LONGEST_LOOK_SECONDS: Final = 1.0  # a new schedule, or one enabled again, is not waited for longer
PAGE: Final = 200


async def tick(doors: Doors, meter: Meter, at: datetime | None = None, *, stop: asyncio.Event | None = None) -> float:
    """Fire every schedule that is due; the seconds until the next is, at most one. Raises DatabaseUnavailable.

    ``at``: the time that it is taken to be; None for the database's. ``stop`` leaves what is due to another process:
    what was missed for weeks takes minutes to make good.
    """
    while True:
        async with doors.database.connection("agentos_system") as connection:
            rows = await store.due(connection, at, PAGE)
        due = [row for row in rows if row.seconds <= 0]
        failed = 0
        for row in due:
            if stop is not None and stop.is_set():
                return 0.0
            try:
                async with doors.open(OrgId(row.org)) as work:
                    late = await service.fire_schedule(work, row.trigger_id, at=row.at)
            except Unavailable:
                raise
            except Exception as error:  # one that cannot fire keeps no other from it; the next look tries it again
                log.exception("schedule_not_fired", trigger=row.trigger_id, error=type(error).__name__)
                failed += 1
                continue
            if late is not None:
                meter.observe(SCHEDULE_LATENESS, max(0.0, late.total_seconds()))
        if failed == len(due):
            return min([LONGEST_LOOK_SECONDS, *(float(row.seconds) for row in rows if row not in due)])


async def tick_for_ever(doors: Doors, meter: Meter, stop: asyncio.Event) -> None:
    """Tick until ``stop``; a database that is away is waited for, and what passed meanwhile is made good."""
    await look_for_ever(
        lambda: tick(doors, meter, stop=stop), stop, every_seconds=LONGEST_LOOK_SECONDS, waits="clock_waits"
    )
