"""Every few minutes drift is looked at, and what the figures advise is recommended.

Every worker looks, one at a time at each scope; a scope that another looked at lately is left to it.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from agentos.evidence.quality import watch as looks
from agentos.evidence.recommendations import service
from agentos.kernel import clock, looking
from agentos.kernel.errors import Unavailable
from agentos.kernel.unit_of_work import Doors

log = structlog.get_logger(__name__)


async def look_everywhere(doors: Doors, *, at: datetime) -> int:
    """Look at every role and deployment that nobody has looked at lately; how many. Raises DatabaseUnavailable.

    One that cannot be looked at keeps no other from it.
    """
    looked = 0
    for organization, scope, target in await looks.scopes(doors.database, at=at):
        try:
            async with doors.open(organization) as work:
                drift = await looks.look(work, scope, target, at=at)
                if drift is None:
                    continue
                await service.recommend(work, scope, target, at=at, drift=drift)
        except Unavailable:
            raise
        except Exception as error:  # the next look tries it again
            log.exception("drift_not_looked_at", org=organization, scope=scope, error=type(error).__name__)
            continue
        looked += 1
    return looked


async def look_for_ever(doors: Doors, stop: asyncio.Event) -> None:
    """Look every five minutes until ``stop``; an outage is waited out."""

    async def look() -> None:
        await look_everywhere(doors, at=clock.now())

    await looking.look_for_ever(look, stop, every_seconds=looks.EVERY.total_seconds(), waits="drift_not_looked_at")
