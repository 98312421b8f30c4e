"""Every run that ended is scored, and again when a draft of it is submitted."""

from __future__ import annotations

from typing import Final

from agentos.evidence.quality import service
from agentos.kernel.clock import now
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs.model import DraftSubmitted, RunEnded

NAME: Final = "quality"  # of the consumer


class Scorer:
    """The consumer of whatever changes a run's score. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """Scores each run once it is over."""
        return Consumer(NAME, (RunEnded, DraftSubmitted), self._score)

    async def _score(self, delivery: Delivery) -> None:
        fact = delivery.fact
        assert isinstance(fact, (RunEnded, DraftSubmitted))
        async with self._doors.open(delivery.organization) as work:
            await service.score(work, fact.run_id, at=now())
