"""Facts become counts, each once; and every few minutes it is marked how far budgets are used up."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from agentos.control.budgets.model import ReserveLost
from agentos.evidence.evals.model import EvalAsked
from agentos.evidence.replay.model import ReplayAsked
from agentos.evidence.usage import service, store
from agentos.kernel.clock import now
from agentos.kernel.looking import look_for_ever
from agentos.kernel.outbox import LEISURE_SECONDS, Consumer, Delivery
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.gateway.model import ModelAsked
from agentos.runtime.runs.model import RunEnded

log = structlog.get_logger(__name__)

NAME: Final = "usage"
TOGETHER: Final = 50  # facts that are counted in one transaction
MARK_SECONDS: Final = 300.0  # a slot of usage_marks: the rate of an hour is right to a twelfth of what it was
MARKS_KEPT: Final = timedelta(days=3)  # the rate of a day looks back to yesterday's
# Of what was counted. A fact is delivered again within minutes, and the outbox keeps it a week.
KEPT: Final = Retention("usage_forget", timedelta(days=30))


class Counting:
    """Counts what runs, questions, replays, evals and lost calls used. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """Every fact that something was used, in order."""
        facts = (RunEnded, ModelAsked, ReplayAsked, EvalAsked, ReserveLost)
        return Consumer(NAME, facts, self._deliver, together=TOGETHER, pause=LEISURE_SECONDS)

    async def _deliver(self, deliveries: Sequence[Delivery]) -> None:
        async with self._doors.open(deliveries[0].organization) as work:
            await service.count(work, [(one.fact, one.at) for one in deliveries])

    async def mark(self, *, at: datetime) -> int:
        """Mark how far budgets are used up; one mark in five minutes, whoever looks. Raises DatabaseUnavailable."""
        return await store.mark(self._doors.database, at, at - MARKS_KEPT)

    async def mark_for_ever(self, stop: asyncio.Event) -> None:
        """Mark until ``stop``; a database that is away is waited for."""

        async def look() -> None:
            await self.mark(at=now())

        await look_for_ever(look, stop, every_seconds=MARK_SECONDS, waits="usage_not_marked")
