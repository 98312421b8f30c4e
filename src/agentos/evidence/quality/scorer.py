"""Every run that ended is scored, again when a draft of it is submitted or discarded; in time scores are forgotten."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from agentos.evidence.quality import scores
from agentos.kernel.clock import now
from agentos.kernel.outbox import Consumer, Delivery
from agentos.kernel.retention import Retention
from agentos.kernel.unit_of_work import Doors
from agentos.runtime.runs.model import DraftDiscarded, DraftSubmitted, RunEnded

NAME: Final = "quality"  # of the consumer
FACTS: Final = (RunEnded, DraftSubmitted, DraftDiscarded)
TOGETHER: Final = 20  # runs that are scored in one transaction
# More than the half year that a drift over the longest window and baseline reads, and a year's questions. Feedback and
# recommendations that were settled go with them.
KEPT: Final = Retention("quality_forget", timedelta(days=400))


class Scorer:
    """The consumer of whatever changes a run's score. All of it is safe to repeat."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def consumer(self) -> Consumer:
        """Scores each run once it is over."""
        return Consumer(NAME, FACTS, self._score, together=TOGETHER)

    async def _score(self, deliveries: Sequence[Delivery]) -> None:
        run_ids = [one.fact.run_id for one in deliveries if isinstance(one.fact, FACTS)]
        async with self._doors.open(deliveries[0].organization) as work:
            await scores.hold(work, run_ids)
            for run_id in run_ids:
                await scores.score(work, run_id, at=now())
