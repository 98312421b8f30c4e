"""Every run that ended is scored, and again when a draft of it is submitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentos.evidence.quality import service
from agentos.kernel.clock import now
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs.model import DraftSubmitted, RunEnded

NAME: Final = "quality"  # of the consumer
TOGETHER: Final = 20  # runs that are scored in one transaction


class Scorer:
    """The consumer of whatever changes a run's score. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """Scores each run once it is over."""
        return Consumer(NAME, (RunEnded, DraftSubmitted), self._score, together=TOGETHER)

    async def _score(self, deliveries: Sequence[Delivery]) -> None:
        async with self._doors.open(deliveries[0].organization) as work:
            for one in deliveries:
                assert isinstance(one.fact, (RunEnded, DraftSubmitted))
                await service.score(work, one.fact.run_id, at=now())
