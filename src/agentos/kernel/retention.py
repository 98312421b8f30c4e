"""What is over is forgotten after a while, so that tables hold what is going on and what people still look up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import text

from agentos.kernel import clock
from agentos.kernel.database import Database
from agentos.kernel.looking import pause

log = structlog.get_logger(__name__)

LOOK_EVERY_SECONDS: Final = 600.0
BATCH: Final = 5000  # rows of one statement: some 50 ms of locks that nobody else wants


@dataclass(frozen=True, slots=True)
class Retention:
    """For how long something is kept that is over.

    ``function`` is a system function ``(before timestamptz, most integer) → bigint`` that forgets and counts.
    """

    function: str
    kept: timedelta


async def forget(database: Database, retention: Retention, *, at: datetime, stop: asyncio.Event | None = None) -> int:
    """Forget what was over longer ago than it is kept; how much that was. After ``stop`` the rest is left.

    Raises DatabaseUnavailable.
    """
    statement = text(f"SELECT {retention.function}(:before, :most)")  # a name that a feature declares
    forgotten, batch = 0, BATCH
    while batch == BATCH and not (stop is not None and stop.is_set()):
        async with database.connection("agentos_system") as connection:
            values = {"before": at - retention.kept, "most": BATCH}
            batch = int((await connection.execute(statement, values)).scalar_one())
        forgotten += batch
    return forgotten


async def forget_for_ever(database: Database, retentions: Sequence[Retention], stop: asyncio.Event) -> None:
    """Forget every ten minutes until ``stop``, in as many workers as run it. An outage is waited out."""
    while not stop.is_set():
        for retention in retentions:
            try:
                await forget(database, retention, at=clock.now(), stop=stop)
            except Exception as error:  # it outlives every outage; what is left is found by the next look
                log.warning("not_forgotten", function=retention.function, error=type(error).__name__)
        await pause(stop, LOOK_EVERY_SECONDS)
